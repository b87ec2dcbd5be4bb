"""What a network is for: the seam between slimming, which does not care, and what is learned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor

Number = TypeVar("Number")

Measured = Mapping[str, Tensor]
"""By name of a `Measure`, its value for each sample: (N,), bool for a share, else float."""


@dataclass(frozen=True)
class Measure:
    """One thing that is measured for each sample, and how its mean reads.

    name: its key in tables, metrics and JSON, an identifier. title: for people. share: whether a
    sample has it or not, so that the mean is a share, shown in percent. unit: of what is no share.
    rises: whether more is better. digits: decimals that are shown.
    """

    name: str
    title: str
    share: bool = False
    unit: str = ""
    rises: bool = True
    digits: int = 2

    def error(self, value: Number) -> Number:
        """What is to be as small as possible: the share without it, or what rises, negated."""
        number: Any = value
        if self.rises:
            number = 1 - number if self.share else -number
        return cast(Number, number)

    def of_error(self, error: Number) -> Number:
        """The inverse of `error`, which is its own."""
        return self.error(error)

    def text(self, value: float) -> str:
        """A value for people: `98.61%`, `31.42 dB`."""
        if self.share:
            return f"{value:.{self.digits}%}"
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    @property
    def steps(self) -> str:
        """What differences are counted in: percentage points, or its unit."""
        return "points" if self.share else self.unit

    def difference(self, value: float, digits: int | None = None) -> str:
        """A difference of two values with its sign, in `steps`: `+0.31`, `±0.00`."""
        scaled = 100 * value if self.share else value
        text = f"{abs(scaled):.{self.digits if digits is None else digits}f}"
        if float(text) == 0:
            return f"±{text}"
        return ("+" if scaled > 0 else "\N{MINUS SIGN}") + text


class Task(ABC):
    """What goes in, what is to come out, and how near an answer is to it.

    name: as `dsnet.tasks.find` knows it. measures: of each sample; the first is the headline.
    labelled: whether targets are the data's class labels.
    """

    name: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]]
    labelled: ClassVar[bool] = False

    @property
    def headline(self) -> Measure:
        """What networks are compared by."""
        return self.measures[0]

    @abstractmethod
    def pair(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of normalised images, float (N, 3, H, W), and labels, int64 (N,)."""

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
