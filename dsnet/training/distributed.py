"""What several workers agree on after each step: one all-reduce over everything."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all workers; nothing to do for one worker."""
    average([p.grad for p in parameters if p.grad is not None])


def average(tensors: list[Tensor]) -> None:
    """Replace tensors of one dtype by their means over all workers, in place, in one call."""
    if not tensors or not dist.is_available() or not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


def total(counts: Tensor) -> Tensor:
    """The sum of `counts` over all workers, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return counts


def least(values: Tensor) -> Tensor:
    """The element-wise least of `values` over all workers, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MIN)
    return values
