"""What a benchmark is told."""

from dataclasses import dataclass, field
from pathlib import Path

from jobs.bench.scaling.assumptions import GPUS, Assumptions
from pipeline.config import Config


@dataclass(frozen=True)
class Options:
    """
    runs: rounds, in each of which everything that is compared is measured once.
    quick: as little work as shows that the benchmark works; its figures mean nothing.
    source: a folder of class folders of pictures, where a benchmark reads pictures; None for
        pictures that it makes.
    threads: of what runs a network; None for one on every core.
    config: the chain, where a benchmark is of one.
    images: of the training images, where a benchmark trains; None for all.
    seeds: how many trainings with another seed a figure of accuracy is over.
    test_images, gpus, assumptions: of a chain on paper; its `images` are the training pictures.
    """

    runs: int = 5
    quick: bool = False
    source: Path | None = None
    threads: int | None = None
    config: Config = field(default_factory=Config)
    images: int | None = None
    seeds: int = 3
    test_images: int | None = None
    gpus: tuple[int, ...] = GPUS
    assumptions: Assumptions = field(default_factory=Assumptions)
