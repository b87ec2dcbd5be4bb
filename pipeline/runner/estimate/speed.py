"""How long a chain takes, part by part, at a speed that is stated or measured on this machine.

The constants, of the driver and Ray and not of the network, are round figures from a run of
jobs/configs/digits.yaml on two cores (Python 3.11, Ray 2.60).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from dsnet import DSNet
from pipeline.config import Config
from pipeline.runner.estimate.sizes import Sizes
from pipeline.runner.estimate.work import FORWARD, GATE, TRAIN, Work, of_chain

MAKES_A_VERSION = ("supernet", "calibrate", "gate")

DRIVER_S = 9.0
"""Imports, a first store, the plan; with them the imports of Ray while its cluster starts."""
WORKERS_S = 20.0
"""From a cluster's start to the first task: Ray, its controller, the workers' imports."""
FIRST_BATCH_S = 6.0
"""FFCV compiles a loader at its first epoch, in every worker."""
VERSION_S = 1.5
"""A registered version: its files, MLflow's, the directory that is kept; with a gate, the ONNX."""
IMPORTS_S = 8.0
"""What two interpreters take to import all that a worker does, at the same time: assumed from 6 s
for one alone; slowness is relative to it."""
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


def spent(works: Sequence[Work], speed: Speed, pictures: int) -> list[Spent]:
    """What a run of these stages takes, part by part; of none, what the driver alone takes.

    pictures: that are still to be ingested.
    """
    constant = "constant, a round figure from digits on two cores"
    if speed.slowness != 1:
        constant += f", times {speed.slowness:.2g} as imports take here"
    versions = sum(work.stage in MAKES_A_VERSION for work in works)
    always = {
        "start of the driver and its store": DRIVER_S,
        "ingest": pictures / PICTURES_PER_SECOND,
        "start of Ray and the workers": WORKERS_S,
        "first batches": FIRST_BATCH_S,
        "registration": versions * VERSION_S,
        "end of the workers and Ray": LEAVE_S,
    }
    parts = [Spent(what, each * speed.slowness, constant) for what, each in always.items()]
    return [
        *(Spent(f"stage {work.stage}", seconds(work, speed), "computed") for work in works),
        *(parts if works else parts[:1]),
    ]


def total(parts: Sequence[Spent]) -> float:
    """The seconds of all parts."""
    return sum(part.seconds for part in parts)


def epochs_within(
    limit: float, config: Config, model: DSNet, sizes: Sizes, speed: Speed
) -> tuple[int, float]:
    """The most epochs, up to the configuration's, of a chain of `limit` seconds; and its seconds.

    One epoch where not even that fits.
    """

    def taking(epochs: int) -> float:
        return chain_seconds(with_epochs(config, epochs), model, sizes, speed)

    fewer = range(2, config.supernet.epochs + 1)
    epochs = 1 + bisect_right(fewer, limit, key=taking)
    return epochs, taking(epochs)


def chain_seconds(config: Config, model: DSNet, sizes: Sizes, speed: Speed) -> float:
    """Seconds of a chain that ingests its data, trains its gate on a table, and finds nothing."""
    works = of_chain(config, model, sizes, by_table=True)
    return total(spent(works, speed, sizes.train + sizes.test))


def with_epochs(config: Config, epochs: int) -> Config:
    """`config` with another number of epochs of stage I."""
    supernet = config.supernet.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"supernet": supernet})
