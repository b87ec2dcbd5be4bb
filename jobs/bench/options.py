"""What a benchmark is told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """
    runs: rounds, in each of which everything that is compared is measured once.
    quick: as little work as shows that the benchmark works; its figures mean nothing.
    source: a folder of class folders of pictures, where a benchmark reads pictures; None for
        pictures that it makes.
    threads: of what runs a network; None for one on every core.
    """

    runs: int = 5
    quick: bool = False
    source: Path | None = None
    threads: int | None = None
