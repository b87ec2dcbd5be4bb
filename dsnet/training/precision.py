"""Whether bfloat16 makes a step of stage I faster, by what the device has and the family is."""

from collections.abc import Mapping

import torch

from dsnet.models.architecture import Architecture
from dsnet.models.registry import family

# What a CPU must have to multiply bfloat16; without, each product is a float32 one and two casts.
_CPU_MULTIPLIES = ("avx512_bf16", "amx_bf16")


def bfloat16_pays(architecture: Architecture, device: torch.device) -> bool:
    """The rule of `supernet.amp: auto`: the device multiplies bfloat16, and it gains by it.

    A GPU gains by it in every family, for half the bytes are moved. A CPU does where
    convolutions larger than 1x1 are dense (`Family.dense`): depthwise ones have no product to make
    faster, and what is around them is bound by memory that autocast's casts add to. A rule and no
    timing, for all workers and all runs on such a device must decide alike.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and pays_on_cpu(architecture, torch.cpu.get_capabilities())


def pays_on_cpu(architecture: Architecture, capabilities: Mapping[str, object]) -> bool:
    """`bfloat16_pays` on a CPU with these instructions, named as `torch.cpu.get_capabilities`."""
    return cpu_multiplies(capabilities) and family(architecture.family).dense


def cpu_multiplies(capabilities: Mapping[str, object]) -> bool:
    """Whether a CPU with these instructions multiplies bfloat16."""
    return any(capabilities.get(name) for name in _CPU_MULTIPLIES)
