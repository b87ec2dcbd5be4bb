"""Optimizers and the learning rate's course, as a function of the step."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import Gate, Supernet

FACTOR = "lr_factor"  # of a group of parameters: its learning rate over the schedule's


def make_optimizer(
    parameters: list[nn.Parameter], section: Supernet | Gate, head: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimizer of a stage; weight decay for matrices and filters only.

    head: what of `parameters` learns at the full rate where the section slows the trunk.
    """
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if isinstance(section, Supernet) and section.trunk_lr != 1 and head is not None:
        fast = {id(parameter) for parameter in head.parameters()}
        groups = [
            {**group, "params": [p for p in group["params"] if (id(p) in fast) == is_fast]}
            | ({} if is_fast else {FACTOR: section.trunk_lr})
            for group in groups
            for is_fast in (False, True)
        ]
    groups = [group for group in groups if group["params"]]
    if section.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=section.lr, betas=(section.momentum, 0.999), fused=True)
    nesterov = section.nesterov if isinstance(section, Supernet) else False
    sgd = torch.optim.SGD(
        groups,
        lr=section.lr,
        momentum=section.momentum,
        nesterov=nesterov and section.momentum > 0,
        fused=True,
    )
    if section.momentum > 0:
        # The fused step writes a momentum's first value over memory that it has not set: where that
        # step is skipped (found_inf), the memory stays so. From zeros it comes to the same value.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def take_step(optimizer: torch.optim.Optimizer, skip: Tensor) -> None:
    """The optimizer's next step, unless `skip`, a scalar on the parameters' device, is 1 and not 0.

    The optimizer is a fused one: it looks at `skip` on the device.
    """
    vars(optimizer)["found_inf"] = skip
    optimizer.step()


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next step on, for a slower group its share."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(FACTOR, 1.0)


def learning_rate(
    step: int, steps: int, peak: float, warmup_steps: int = 0, warmup_lr: float = 0.0
) -> float:
    """Linear from `warmup_lr` to `peak` over the warm-up, then half a cosine down to 0."""
    if step < warmup_steps:
        return warmup_lr + (peak - warmup_lr) * step / warmup_steps
    return peak / 2 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


def one_cycle(step: int, steps: int, peak: float) -> float:
    """torch's OneCycleLR with its defaults: half a cosine up over 30% of the steps, another down.

    From peak / 25 to peak to peak / 250,000, which the last step has. Momentum stays as it is.
    """
    first, top, last = peak / 25, 0.3 * steps - 1, steps - 1
    if step <= top:
        return _half_cosine(first, peak, step / top)
    return _half_cosine(peak, first / 1e4, (step - top) / (last - top))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
