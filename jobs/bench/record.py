"""One measured figure, as `dsnet bench --json` writes it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """
    name: what was measured; no two records of a benchmark share it.
    value: the median over the runs, in `unit`.
    spread: the smallest and the largest of the runs.
    runs: how often it was measured.
    against: the name of the record that it is compared with; None for that one itself.
    ratio: median over the rounds of this one's value over the other's.
    """

    name: str
    unit: str
    value: float
    spread: tuple[float, float]
    runs: int
    against: str | None = None
    ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
