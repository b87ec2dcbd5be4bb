"""Losses over an epoch, steps that were not finite and are skipped, and which loss it was."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dsnet.errors import DivergenceError
from dsnet.training.distributed import least

_NEVER = 2**62
IN_A_ROW = 10
"""Skipped steps one after another (or a whole epoch of fewer) that end a training."""
SHARE = 0.05
"""Share of an epoch's steps that may be skipped; one may in any case."""

_FIRST, _TAKEN, _ROW, _LONGEST, _SKIPPED = range(5)


def not_finite(gradients: Sequence[Tensor]) -> Tensor:
    """1.0 if one of the gradients has a NaN or an infinity, else 0.0: a scalar on their device.

    What fused optimizers take as `found_inf`. Nothing waits for the device.
    """
    found = gradients[0].new_zeros(())
    torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), found, torch.ones_like(found))
    return found


class Snapshot:
    """A copy of tensors of one dtype, from which to restore them if the next step is skipped."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._before = self._flat()

    def restore(self, skip: Tensor) -> None:
        """Undo all changes since, where `skip`, a scalar on their device, is not 0."""
        if not self._tensors:
            return
        flat = torch.where(skip.bool(), self._before, self._flat())
        parts = flat.split([tensor.numel() for tensor in self._tensors])
        pairs = zip(parts, self._tensors, strict=True)
        torch._foreach_copy_(self._tensors, [part.view_as(tensor) for part, tensor in pairs])

    def _flat(self) -> Tensor:
        if not self._tensors:
            return torch.empty(0)
        return torch.cat([tensor.detach().flatten() for tensor in self._tensors])


class LossMeter:
    """The sums of an epoch's losses, and its skipped steps.

    Nothing waits for the device until one of them is asked for.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums = torch.empty(0)
        # Rows: the first step whose loss was not finite; the first that was so and was not skipped.
        self._first = torch.empty(0, dtype=torch.int64)
        # The first skipped step; steps taken; skipped last in a row, most in a row, in all.
        self._counts = torch.tensor([_NEVER, 0, 0, 0, 0])

    def add(self, step: int, losses: Mapping[str, Tensor], skipped: Tensor | None = None) -> None:
        """Count the scalars of one step. `step`: its number, for messages.

        skipped: a scalar, not 0 if the step was skipped: its losses are then not summed.
        """
        values = torch.stack(list(losses.values()))
        if not self._names:
            self._names = tuple(losses)
            self._sums = torch.zeros_like(values)
            self._first = torch.full((2, len(values)), _NEVER, device=values.device)
            self._counts = self._counts.to(values.device)
        skip = torch.zeros((), dtype=torch.bool, device=values.device)
        if skipped is not None:
            skip = skipped.bool()
        self._sums += torch.where(skip, 0, values)
        wrong = ~torch.isfinite(values)
        here = torch.where(torch.stack([wrong, wrong & ~skip]), step, _NEVER)
        self._first = torch.minimum(self._first, here)
        counts, one = self._counts, skip.to(torch.int64)
        counts[_FIRST] = torch.minimum(counts[_FIRST], torch.where(skip, step, _NEVER))
        counts[_TAKEN] += 1 - one
        counts[_ROW] = (counts[_ROW] + 1) * one
        counts[_LONGEST] = torch.maximum(counts[_LONGEST], counts[_ROW])
        counts[_SKIPPED] += one

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps that were taken, on this worker; {} if none was."""
        taken = int(self._counts[_TAKEN])
        if not taken:
            return {}
        return {n: v / taken for n, v in zip(self._names, self._sums.tolist(), strict=True)}

    @property
    def skipped(self) -> int:
        """How many steps were skipped."""
        return int(self._counts[_SKIPPED])

    def check(
        self,
        steps: int,
        describe: Callable[[str, int], str] = lambda name, step: name,
    ) -> None:
        """Raise DivergenceError, on every worker alike, if more went wrong than skipping mends.

        That is: a loss was not finite and its step was taken for its gradients were; IN_A_ROW steps
        one after another were skipped; or more than SHARE of the epoch's `steps`. A collective.
        describe: what to call the loss `name` of a step in the message.
        """
        if not self._names:
            return
        first, broken = least(self._first.clone()).tolist()
        begin, _, _, longest, skipped = self._counts.tolist()
        many = longest >= min(IN_A_ROW, steps) or skipped > max(1, SHARE * steps)
        if min(broken) == _NEVER and not many:
            return
        step, name = min(zip(broken if not many else first, self._names, strict=True))
        if step == _NEVER:
            what, step = "a gradient", begin
        else:
            what = f"the loss of {describe(name, step)}"
        more = f" ({skipped} steps were skipped)" if skipped else ""
        raise DivergenceError(f"{what} is not finite at step {step}{more}")

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything, for `from_tensors`, on the CPU: copies."""
        if not self._names:
            return {}
        sums = {f"sum.{name}": self._sums[index] for index, name in enumerate(self._names)}
        first = {f"first.{name}": self._first[:, index] for index, name in enumerate(self._names)}
        tensors = {**sums, **first, "counts": self._counts}
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device) -> "LossMeter":
        """The inverse of `to_tensors`; the order of names is no matter."""
        meter = cls()
        names = [name.removeprefix("sum.") for name in tensors if name.startswith("sum.")]
        if names:
            meter._names = tuple(names)
            meter._sums = torch.stack([tensors[f"sum.{name}"] for name in names]).to(device)
            meter._first = torch.stack([tensors[f"first.{name}"] for name in names], 1).to(device)
            meter._counts = tensors["counts"].to(device, copy=True)
        return meter


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
