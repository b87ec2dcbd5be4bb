"""What a stage's result depends on, as one digest: equal ones mean that it need not run again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import Config

# What decides which pictures a stage sees, and how. Where the files lie, how many threads read them
# and how often is saved changes no result. The number of workers does: it is a factor of the batch,
# and of elastic workers the largest number is, however many there are.
PICTURES = (
    "data.recipe",
    "data.resolution",
    "data.max_resolution",
    "data.holdout",
    "task",
    "seed",
)
_WORKERS = "cluster.workers"


@dataclass(frozen=True)
class Spec:
    """A stage, as far as a result of it is found again.

    The text of the code is no part of it: a mended comment must not train a network again.
    """

    name: str
    revision: int
    """Raised by hand when the stage would compute something else from the same inputs. A test runs
    every stage on a tiny input, and holds what comes out against the record of this revision."""
    fields: tuple[str, ...]
    """Fields and sections of the configuration that it reads, by dotted name."""
    unread: tuple[str, ...] = ()
    """Fields of those sections that change no result."""


def fingerprint(stage: Spec, config: Config, *, inputs: Sequence[str], dataset_digest: str) -> str:
    """SHA-256, in hexadecimal, of all that the result of `stage` depends on.

    inputs: identities of the versions that it reads, best their own fingerprints, in order.
    dataset_digest: of the data that it reads.
    """
    document = {
        "stage": stage.name,
        "revision": stage.revision,
        "config": read_by(stage, config.as_dict()),
        "inputs": list(inputs),
        "dataset": dataset_digest,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def place_of(stage: Spec, config: Config, dataset_digest: str) -> str:
    """SHA-256 of the place of a chain's first stage, which a model that is given may take.

    As its fingerprint, but for the number of workers: what they did not train does not change with
    how many there are.
    """
    unread = (*stage.unread, "cluster.workers")
    place = replace(stage, name=f"in place of {stage.name}", unread=unread)
    return fingerprint(place, config, inputs=(), dataset_digest=dataset_digest)


def read_by(stage: Spec, values: Mapping[str, Any]) -> dict[str, Any]:
    """The stage's fields and sections, by dotted name, but for what changes no result."""
    chosen: dict[str, Any] = {}
    for name in stage.fields:
        value: Any = values
        for part in name.split("."):
            value = value[part]
        if isinstance(value, Mapping):
            chosen |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            chosen[name] = value
    if isinstance(workers := chosen.get(_WORKERS), Sequence):
        chosen[_WORKERS] = max(workers)
    return {name: value for name, value in chosen.items() if name not in stage.unread}
