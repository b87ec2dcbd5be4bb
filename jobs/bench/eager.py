"""The network as it is trained, in eager PyTorch: weights sliced at every call."""

from collections.abc import Callable

import torch
from torch import Tensor

from dsnet import DSNet, normalize


def guarded(model: DSNet, width: int | None = None) -> Callable[[Tensor], object]:
    """As fast as it gets: no bookkeeping for gradients, channels last."""

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        x = normalize(images, model.metadata.mean, model.metadata.std)
        logits: Tensor = model(x, width=width)
        return logits

    return run


def plain(model: DSNet) -> Callable[[Tensor], object]:
    """As a first try has it: `model(x)` with no guard around it, on a contiguous tensor."""

    def run(images: Tensor) -> Tensor:
        x = normalize(images, model.metadata.mean, model.metadata.std).contiguous()
        logits: Tensor = model(x)
        return logits

    return run
