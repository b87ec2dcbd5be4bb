"""Losses over an epoch, and the first step at which one of them was not finite."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dsnet.errors import DivergenceError
from dsnet.training.distributed import least

_NEVER = 2**62


class LossMeter:
    """The sums of an epoch's losses. Nothing waits for the device until `means` or `check`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}  # step, int64 (), _NEVER while all were finite
        self._steps = 0

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Count the scalars of one step. `step`: its number, for messages."""
        self._steps += 1
        for name, loss in losses.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(loss)
                self._first[name] = torch.full_like(loss, _NEVER, dtype=torch.int64)
            self._sums[name] += loss
            here = torch.where(torch.isfinite(loss), _NEVER, step)
            self._first[name] = torch.minimum(self._first[name], here)

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps, on this worker."""
        return {name: float(value) / self._steps for name, value in self._sums.items()}

    def check(self, describe: Callable[[str, int], str] = lambda name, step: name) -> None:
        """Raise DivergenceError, on every worker alike, if a loss was not finite on any of them.

        describe: what to call the loss `name` of a step in the message.
        """
        names = list(self._first)
        steps = least(torch.stack([self._first[name] for name in names])).tolist()
        step, name = min(zip(steps, names, strict=True))
        if step < _NEVER:
            raise DivergenceError(
                f"the loss of {describe(name, step)} is not finite at step {step}"
            )


def check_finite(tensors: Mapping[str, Tensor], when: str) -> None:
    """Raise DivergenceError naming the first tensor that is not finite throughout.

    when: the end of the message, such as "after step 100".
    """
    if (name := first_not_finite(tensors)) is not None:
        raise DivergenceError(f"{name} is not finite {when}")


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity in it, if there is one.

    One host synchronisation, however many tensors there are.
    """
    floating = {name: t for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    if not floating:
        return None
    finite = torch.stack([torch.isfinite(t).all() for t in floating.values()]).tolist()
    return next((name for name, good in zip(floating, finite, strict=True) if not good), None)
