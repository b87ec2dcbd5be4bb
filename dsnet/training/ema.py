"""The teacher of stage I: an exponential moving average of the student."""

import copy

import torch
from torch import Tensor

from dsnet.models.network import DSNet


def make_teacher(model: DSNet) -> DSNet:
    """A copy of `model` in eval mode that learns only through `update_teacher`."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_teacher(
    teacher: DSNet, model: DSNet, decay: float = 0.997, skip: Tensor | None = None
) -> None:
    """teacher <- decay * teacher + (1 - decay) * model, parameters and buffers, in fused calls.

    skip: a scalar on their device; where it is 1 and not 0, the teacher stays as it is, bit for
    bit, and nothing waits for the device to find out.
    """
    averages = (*teacher.parameters(), *teacher.buffers())
    tensors = (*model.parameters(), *model.buffers())
    if skip is None:
        torch._foreach_lerp_(averages, tensors, 1 - decay)
    else:
        weight = (1 - decay) * (1 - skip)
        torch._foreach_lerp_(averages, tensors, [weight] * len(averages))


def warmed_decay(decay: float, updates: int) -> float:
    """The decay after `updates` updates: min(decay, (1 + updates) / (10 + updates)).

    An average over the last ninth of the training so far, until that is what `decay` averages over
    (2,990 steps at 0.997). With `decay` from the first step on, a teacher is for long little but
    its random initialisation, which the slim widths of a short training then learn from. The
    formula is that of TensorFlow's ExponentialMovingAverage with num_updates.
    """
    return min(decay, (1 + updates) / (10 + updates))
