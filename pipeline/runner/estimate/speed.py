"""How fast a chain's stages are: as stated, or measured on this machine; and what is always spent.

The constants are round figures after one fresh run of jobs/configs/digits.yaml on two cores that
others used too (Python 3.11, Ray 2.60; driver 11 s, workers 26 s, end 6 s): they are less than it
took, by what the others may have cost. They are of the driver and Ray, not of the network.
"""

from dataclasses import dataclass, replace

from pipeline.runner.estimate.work import FORWARD, GATE, TRAIN, Work

DRIVER_S = 9.0
"""Imports, a first store, the plan; with them the imports of Ray while its cluster starts."""
WORKERS_S = 20.0
"""From a cluster's start to the first task: Ray, its controller, the workers' imports."""
FIRST_BATCH_S = 6.0
"""FFCV compiles a loader at its first epoch, in every worker."""
VERSION_S = 1.5
"""A registered version: its files, MLflow's, the directory that is kept; with a gate, the ONNX."""
IMPORTS_S = 8.0
"""What two interpreters are taken to need to import all that a worker does, both at once: assumed
from 6 s for one alone, and what slowness is relative to."""
LEAVE_S = 4.0
"""The workers' and the cluster's end."""
PICTURES_PER_SECOND = 1500.0
"""Ingest of small pictures, or of photographs on eight cores."""
ROWS_PER_SECOND = 600_000.0
"""Rows of a table that one step of a gate's training takes: features of some hundred numbers."""


@dataclass(frozen=True)
class Speed:
    """Of all workers together, in multiply-adds per second."""

    train: float
    forward: float
    how: str
    """Where the figures are from, for people."""
    measured: bool
    slowness: float = 1.0
    """How much longer this machine takes for imports than the one the constants are of."""


@dataclass(frozen=True)
class Spent:
    """An estimate of seconds, and what it is made of."""

    what: str
    seconds: float
    how: str
    """computed (from the speed), or a constant that was measured elsewhere."""


def stated(images_per_second: float, madds_per_image: int) -> Speed:
    """Of a stage I that trains on so many images a second, all workers together."""
    rate = images_per_second * madds_per_image
    return Speed(rate, rate, f"stated: {images_per_second:,g} images/s in stage I", False)


def seconds(work: Work, speed: Speed) -> float:
    """What a stage's work takes, without what is always spent."""
    if work.kind == GATE:
        return work.steps * work.images / ROWS_PER_SECOND
    rates = {TRAIN: speed.train, FORWARD: speed.forward}
    return work.madds / rates[work.kind] + work.evaluated_madds / speed.forward


def always(versions: int, pictures: int, slowness: float) -> list[Spent]:
    """What a chain spends beside its stages' work. pictures: that are still to be ingested."""
    constant = "constant, a round figure from digits on two cores"
    if slowness != 1:
        constant += f", times {slowness:.2g} as imports take here"
    parts = [
        Spent("start of the driver and its store", DRIVER_S, constant),
        Spent("ingest", pictures / PICTURES_PER_SECOND, constant),
        Spent("start of Ray and the workers", WORKERS_S, constant),
        Spent("first batches", FIRST_BATCH_S, constant),
        Spent("registration", versions * VERSION_S, constant),
        Spent("end of the workers and Ray", LEAVE_S, constant),
    ]
    return [replace(part, seconds=part.seconds * slowness) for part in parts]
