"""A configuration for a source's pictures: each field with the reason for its value."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Cluster
from pipeline.data.suggest.kinds import Kind, kind_of
from pipeline.data.suggest.survey import Survey

STEPS, FEW = 850, 1_700
"""Optimizer steps of stage I for up to FEW training pictures; more by the square root."""
MOST_EPOCHS = 100
SMALLEST_BATCH, LARGEST_BATCH = 8, 32
"""Images per worker and step: the largest from FEW pictures on, less by the square root before."""
LR, LR_BATCH = 0.1, 32
"""Learning rate for steps of so many images; for others as the square root of their number."""
ROWS = 8_000  # of a routing table to train on, about
MOST_VIEWS = 4
CHECKPOINTS = 10  # of a training
HOLDOUT, MOST_HELD_OUT, ENOUGH = 0.05, 0.2, 25
"""Share of the training pictures held out; more of very few, up to so many pictures."""
PAPER_EPOCHS, PAPER_BATCH = 10, 64  # for photographs by the ten thousand, which want GPUs


@dataclass(frozen=True)
class Choice:
    """One field of the configuration."""

    field: str
    """Dotted: `gate.target`."""
    value: Any
    why: str
    """A sentence."""


def choices(spec: str, found: Survey) -> list[Choice]:
    """What to write into a configuration for the training pictures `found` in `spec`.

    spec: as `data.source` will say it.
    """
    kind = kind_of(found)
    return [
        Choice("name", _name(spec), "what the model is registered as"),
        *_data(spec, found, kind),
        Choice("model.arch", kind.arch, kind.arch_why),
        *_supernet(found, kind),
        Choice(
            "gate.target",
            0.5,
            "half of the widest's multiply-adds on average; dsnet sweep tries several",
        ),
        *_table(found, kind),
    ]


def steps_for(pictures: float) -> float:
    """Optimizer steps of stage I that so many training pictures deserve: never fewer for more."""
    return STEPS * math.sqrt(max(pictures / FEW, 1))


def batch_for(pictures: float) -> int:
    """Images per worker and step."""
    wanted = round(LARGEST_BATCH * math.sqrt(pictures / FEW))
    return min(max(wanted, SMALLEST_BATCH), LARGEST_BATCH)


def checkpoints(epochs: int) -> Choice:
    """How often a training of so many epochs is saved and evaluated."""
    return Choice(
        "supernet.checkpoint_every",
        math.ceil(epochs / CHECKPOINTS),
        f"about {CHECKPOINTS} checkpoints in all, each with an evaluation on held-out pictures",
    )


def _name(spec: str) -> str:
    """The last part of a path, as far as a name of models may have its characters."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(spec).stem).strip("-_")[:60]
    while name.endswith("-supernet"):
        name = name.removesuffix("-supernet")
    return name or "pictures"


def _data(spec: str, found: Survey, kind: Kind) -> Iterator[Choice]:
    yield Choice("data.source", spec, "where the pictures are")
    recipe, why = kind.recipe(found)
    yield Choice("data.recipe", recipe, why)
    yield Choice(
        "data.resolution",
        kind.resolution,
        f"pixels a side that the network sees; the pictures have {found.side}, the middle one",
    )
    if found.longest > kind.max_resolution:
        yield Choice(
            "data.max_resolution",
            kind.max_resolution,
            f"stored no larger, to decode in less time; {found.larger(kind.max_resolution):.0%} of "
            f"the pictures are larger, the largest has {found.longest} pixels",
        )
    yield Choice(
        "data.holdout",
        _holdout(found),
        "share kept from training to calibrate and check the gate: small, for every picture counts",
    )


def _holdout(found: Survey) -> float:
    return round(min(max(ENOUGH / max(found.pictures, 1), HOLDOUT), MOST_HELD_OUT), 3)


def _supernet(found: Survey, kind: Kind) -> Iterator[Choice]:
    trained_on = max(found.pictures * (1 - _holdout(found)), 1)
    workers = Cluster().max_workers
    if kind.from_paper:
        epochs, batch = PAPER_EPOCHS, PAPER_BATCH
    else:
        batch = batch_for(trained_on)
        images = steps_for(trained_on) * batch * workers
        epochs = min(math.ceil(images / trained_on), MOST_EPOCHS)
    yield Choice(
        "supernet.epochs",
        epochs,
        "passes over the training pictures, for about as many steps as their number deserves",
    )
    yield Choice("supernet.batch_size", batch, f"images in a step, of each of {workers} workers")
    if kind.from_paper:
        return
    yield Choice(
        "supernet.lr",
        round(LR * math.sqrt(batch * workers / LR_BATCH), 3),
        f"{LR:g} for steps of {LR_BATCH} images, and by the square root of their number",
    )
    yield Choice(
        "supernet.schedule", "one_cycle", "few epochs are to end at a small rate, and begin at one"
    )
    if (half := 8 * round(kind.resolution / 16)) >= 16:
        yield Choice(
            "supernet.resolution_from",
            half,
            "pixels a side of the first epochs' pictures: smaller ones take less",
        )
    yield Choice("supernet.random_widths", 1, "one beside the largest and smallest, to take less")
    yield Choice(
        "supernet.bootstrap",
        "labels",
        "every width learns from the labels: in trainings of minutes more than from a teacher",
    )
    yield checkpoints(epochs)


def _table(found: Survey, kind: Kind) -> Iterator[Choice]:
    views = min(max(round(ROWS / (found.pictures * (1 - _holdout(found)))), 1), MOST_VIEWS)
    if not kind.from_paper and views < MOST_VIEWS:
        yield Choice("table.views", views, f"about {ROWS:,} rows are enough to train a gate on")
