"""What a network is for: the seam between slimming, which does not care, and what is learned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.nn.plan import Ranked
from dsnet.tasks.measure import Measure

__all__ = ["Measure", "Measured", "Tally", "Task"]

Measured = Mapping[str, Tensor]
"""By name of a `Measure`, its value for each sample: (N,), bool for a share, else float."""


class Tally(ABC):
    """What is counted of many answers that no measure of a single one tells."""

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch."""

    @abstractmethod
    def sums(self) -> list[Tensor]:
        """What is counted, to be read and written: those of several workers add up."""

    @abstractmethod
    def figures(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values, for JSON. classes: the names of the labels, where there are any."""


class Task(ABC):
    """What goes in, what is to come out, and how near an answer is to it.

    name: as the registry knows it. measures: of each sample; the first is the headline.
    labelled: whether targets are the data's class labels. normalized: whether inputs are normalised
    by the data's mean and deviation; else they are of 0 to 1. pictures: whether outputs are.
    """

    name: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]]
    labelled: ClassVar[bool] = False
    normalized: ClassVar[bool] = True
    pictures: ClassVar[bool] = False

    @property
    def headline(self) -> Measure:
        """What networks are compared by."""
        return self.measures[0]

    def configured(self, settings: Mapping[str, Any]) -> "Task":
        """This task with a configuration's section `task`. Raises InputError for what it has not.

        What it is for people to set, its own docstring tells.
        """
        if settings:
            raise InputError(
                f"task: expected nothing, for {self.name} has no settings, found "
                f"{shown(dict(settings))}"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """What `configured` makes the same task of: plain values, for JSON."""
        return {}

    @abstractmethod
    def pair(self, images: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of images, float (N, 3, H, W), and labels, int64 (N,).

        Where pictures were mixed, a labelled task is given probabilities, float (N, classes). keys:
        int64 (N,), for what is random: of the seed, the epoch, the view and the sample, so that it
        is the same whenever, and among whatever others, that view of it is asked for.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss of each sample, (N,). smoothing: of class labels, where targets are such."""

    @abstractmethod
    def soften(self, outputs: Tensor) -> Tensor:
        """A teacher's outputs as a target: cut off from the graph, and of a kind to average."""

    @abstractmethod
    def distill(self, outputs: Tensor, soft: Tensor) -> Tensor:
        """The loss of each sample against what `soften` gave, (N,)."""

    @abstractmethod
    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Every one of `measures`, by name: see `Measured`."""

    @abstractmethod
    def easy(self, slim: Measured, wide: Callable[[], Measured]) -> Tensor:
        """Whether the slimmest path's answer will do (sandwich gate sparsification): bool (N,).

        slim: what was measured of the slimmest path. wide: what was measured of the widest, asked
        for where it matters, since the widest path may have to run for it.
        """

    @abstractmethod
    def hopeless(self, wide: Measured) -> Tensor:
        """Whether even the widest path's answer will not do ("give up"): bool (N,)."""

    def confidence(self, outputs: Tensor) -> Tensor | None:
        """How sure each answer is of itself, 0 to 1, (N,); None where outputs do not tell."""
        return None

    def evidence(self) -> Ranked | None:
        """What of an answer a second look decides by; None where outputs tell nothing."""
        return None

    def tally(self, outputs: int) -> Tally | None:
        """A new one for a network of so many outputs; None where measures tell all."""
        return None
