"""One measured figure, as `dsnet bench --json` writes it, and as a point of a plot."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.report.chart import Point


@dataclass(frozen=True)
class Record:
    """A median over rounds."""

    name: str
    """What was measured; no two records of a benchmark share it."""
    unit: str
    value: float
    spread: tuple[float, float]
    """The smallest and the largest."""
    runs: int
    """How often it was measured."""
    against: str | None = None
    """Name of the record that it is compared with; None for that one itself."""
    ratio: float | None = None
    """Median over the rounds of this one's value over the other's."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def point(name: str, x: "Record | float", y: Record, x_unit: float = 1.0) -> Point:
    """Where the medians are, with whiskers from the smallest to the largest.

    x_unit: values along x are divided by it.
    """
    value, ends = (x.value, x.spread) if isinstance(x, Record) else (x, (x, x))
    across = ends[0] / x_unit, ends[1] / x_unit
    title = f"{name}: {y.value:,.4g} {y.unit} ({y.spread[0]:,.4g} to {y.spread[1]:,.4g})"
    return Point(value / x_unit, y.value, title, across=across, along=y.spread)
