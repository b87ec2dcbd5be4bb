"""What a training goes on from: tensors in safetensors, the rest in JSON, no pickle."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import dsnet
from dsnet import DSNet

MODEL, STUDENT, OPTIMIZER, PROGRESS = (
    "model",
    "student.safetensors",
    "optimizer.safetensors",
    "progress.json",
)


@dataclass
class Training:
    """The state of a training: what learns, what steers it, and how many epochs are done.

    model: what the stage will hand on, a model directory in the checkpoint (stage I: the teacher).
    student: what the optimizer updates, where that is another network than `model`.

    Random numbers are not part of it: every epoch seeds its own, so that one that is trained again
    draws what it drew before.
    """

    model: DSNet
    optimizer: torch.optim.Optimizer
    student: DSNet | None = None
    epoch: int = 0

    @property
    def learning(self) -> list[nn.Parameter]:
        """What the optimizer updates, in the network's order."""
        return [p for p in (self.student or self.model).parameters() if p.requires_grad]

    def save(self, directory: Path) -> None:
        """Write everything into an existing folder."""
        dsnet.save(self.model, directory / MODEL)
        if self.student is not None:
            save_file(_on_cpu(self.student.state_dict()), directory / STUDENT)
        save_file(_on_cpu(_flat(self.optimizer)), directory / OPTIMIZER)
        (directory / PROGRESS).write_text(json.dumps({"epoch": self.epoch}))

    def restore(self, directory: Path) -> None:
        """Read what `save` wrote, in place: the next step is the one that would have come next."""
        self.model.load_state_dict(dsnet.load(directory / MODEL).state_dict())
        if self.student is not None:
            self.student.load_state_dict(load_file(directory / STUDENT))
        _restore_optimizer(self.optimizer, load_file(directory / OPTIMIZER))
        self.epoch = int(json.loads((directory / PROGRESS).read_text())["epoch"])


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by parameter number and name: `12.momentum_buffer`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state.items()
        for key, value in values.items()
        if value is not None
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` in the memory format of its parameter, where it has one value for each of its.

    Fused optimizers walk the raw memory of both side by side: a contiguous buffer beside a
    channels_last parameter would give each weight the momentum of another.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
