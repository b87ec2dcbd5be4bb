"""A configuration for a source's pictures: each field with the reason for its value."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Cluster
from pipeline.data.suggest.kinds import Kind, kind_of
from pipeline.data.survey import Survey

FEWEST_EPOCHS, MOST_EPOCHS = 10, 40  # fewer teach nothing; more of so few learn them by heart
SMALLEST_BATCH, LARGEST_BATCH = 8, 64  # images per worker and step
STEPS = 8  # of an epoch, at least, where there are pictures enough
BASE_LR = 0.1  # of batches of 64
CHECKPOINTS = 10  # of a training
MANY = 5_000  # pictures, of which a tenth tells an average well


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
    ]


def _name(spec: str) -> str:
    """The last part of a path, as far as a name of models may have its characters."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(spec).stem).strip("-_")[:60]
    while name.endswith("-supernet"):
        name = name.removesuffix("-supernet")
    return name or "pictures"


def _data(spec: str, found: Survey, kind: Kind) -> Iterator[Choice]:
    yield Choice("data.source", spec, "where the pictures are")
    yield Choice("data.recipe", kind.recipe, kind.recipe_why)
    yield Choice(
        "data.resolution",
        kind.resolution,
        f"pixels a side that the network sees; the pictures have {found.side}, the middle one",
    )
    if found.longest > kind.max_resolution:
        yield Choice(
            "data.max_resolution",
            kind.max_resolution,
            f"stored no larger, to decode in less time; the largest has {found.longest} pixels",
        )
    enough = "as the pictures are few" if found.pictures < MANY else "enough of many"
    yield Choice(
        "data.holdout",
        _holdout(found),
        f"share kept from training to calibrate and check the gate on, {enough}",
    )


def _holdout(found: Survey) -> float:
    return 0.2 if found.pictures < MANY else 0.1


def _supernet(found: Survey, kind: Kind) -> Iterator[Choice]:
    trained_on = found.pictures * (1 - _holdout(found))
    epochs = min(max(round(kind.images / trained_on), FEWEST_EPOCHS), MOST_EPOCHS)
    seen = f"{epochs * trained_on:,.0f}"
    workers = Cluster().max_workers
    steps = max(trained_on / (workers * STEPS), 1)
    batch = min(max(2 ** math.floor(math.log2(steps)), SMALLEST_BATCH), LARGEST_BATCH)
    yield Choice("supernet.epochs", epochs, f"each training picture so often, {seen} images in all")
    yield Choice(
        "supernet.batch_size",
        batch,
        f"for each of {workers} workers; small sets want small batches, for more steps",
    )
    if kind.from_paper:
        return
    yield Choice(
        "supernet.lr",
        round(BASE_LR * math.sqrt(batch / LARGEST_BATCH), 3),
        f"{BASE_LR:g} for batches of {LARGEST_BATCH}, less by the square root for smaller ones",
    )
    yield Choice(
        "supernet.schedule", "one_cycle", "few epochs are to end at a small rate, and begin at one"
    )
    yield Choice("supernet.random_widths", 1, "one beside the largest and smallest, to take less")
    yield Choice("supernet.bootstrap", "plain", "one pass of the teacher less for each of them")
    yield Choice(
        "supernet.checkpoint_every",
        math.ceil(epochs / CHECKPOINTS),
        f"about {CHECKPOINTS} checkpoints in all, each of them with a look at held-out pictures",
    )
