"""The options of a benchmark."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config


@dataclass(frozen=True)
class Options:
    """Flags of `dsnet bench`."""

    runs: int = 5
    """Rounds, in each of which everything that is compared is measured once."""
    quick: bool = False
    """As little work as shows that the benchmark works; its figures mean nothing."""
    source: Path | None = None
    """Class folders of pictures, for benchmarks that read pictures; None: made ones."""
    threads: int | None = None
    """Of what runs a network; None: one on every core."""
    config: Config = field(default_factory=Config)
    """The chain that a benchmark is of."""
    seeds: int = 3
    """Trainings behind each accuracy."""
