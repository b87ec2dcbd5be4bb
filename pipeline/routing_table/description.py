"""What a table on disk was made from: kept with it and in every shard, checked before use.

A table of one network says nothing about another, and nothing in its numbers would show it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsnet import DSNet
from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from dsnet.routing import Paths, paths_of
from dsnet.routing.looks import evidence_size
from dsnet.tasks.registry import find
from pipeline.config import OwnRecipe
from pipeline.data.augment.recipes import plain
from pipeline.data.manifest import Manifest

FORMAT = 3
FILE = "table.json"
SHARD_ROWS = 16384


@dataclass(frozen=True)
class Description:
    """One table: the rows of some images of one data set through one supernet."""

    supernet: str
    """The supernet's version, such as models:/digits-supernet/2."""
    fingerprint: str
    """The fingerprint of that version."""
    task: str
    """What the supernet is for, by its name."""
    dataset: str
    """SHA-256 of the beton."""
    part: str
    """Which images: train, holdout or test."""
    images: int
    """How many."""
    indices: str
    """SHA-256 of their numbers in the beton, int64."""
    views: int
    """Augmented versions of each; 0 for the one that evaluation shows."""
    recipe: str | dict[str, Any]
    """How pictures are prepared, as a configuration has it."""
    resolution: int
    """Side of the network's input, in pixels."""
    seed: int
    """Of the augmentation."""
    routes: tuple[int, ...]
    """Routes of each gate."""
    madds: tuple[int, ...]
    """Multiply-adds of each path."""
    costs: tuple[tuple[float, ...], ...]
    """Per gate, `DSNet.gate_costs`."""
    features: tuple[int, ...]
    """Per gate, the size of its reduced feature."""
    prefix: int
    """Multiply-adds of what comes before the first gate's choice."""
    confidences: bool
    """Whether its outputs tell how sure they are."""
    evidence: int
    """How many numbers an answer's evidence has; 0 where the task has none."""
    shard_rows: int
    """Rows in each shard, but for the last of a view."""

    @property
    def rows(self) -> int:
        """One for each image and view."""
        return self.images * max(self.views, 1)

    @property
    def precision(self) -> str:
        """float16 suffices to learn from; a choice that must equal the network's needs float32."""
        return "float16" if self.views else "float32"

    @property
    def paths(self) -> Paths:
        """As the algorithms take them."""
        costs = tuple(torch.tensor(cost) for cost in self.costs)
        madds = torch.tensor(self.madds, dtype=torch.float64)
        return Paths(self.routes, madds, costs, self.prefix)

    def to_json(self) -> str:
        """One line, the same for equal descriptions."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)


def describe(
    model: DSNet,
    manifest: Manifest,
    indices: np.ndarray,
    *,
    supernet: str,
    fingerprint: str,
    part: str,
    views: int,
    recipe: str | OwnRecipe,
    resolution: int,
    seed: int,
    shard_rows: int = SHARD_ROWS,
) -> Description:
    """The description of the table that `model` gives of `indices` of a beton.

    model: in eval mode. Raises InputError for a network without gates or with too many paths.
    """
    paths = paths_of(model)
    return Description(
        supernet=supernet,
        fingerprint=fingerprint,
        task=model.task.name,
        dataset=manifest.digest,
        part=part,
        images=len(indices),
        indices=hashlib.sha256(np.asarray(indices, "<i8").tobytes()).hexdigest(),
        views=views,
        recipe=plain(recipe),
        resolution=resolution,
        seed=seed,
        routes=paths.routes,
        madds=tuple(int(count) for count in paths.madds),
        costs=tuple(tuple(cost.tolist()) for cost in paths.costs),
        features=tuple(gate.features for gate in model.gates),
        prefix=paths.prefix,
        confidences=_tells_confidence(model, resolution),
        evidence=evidence_size(model),
        shard_rows=shard_rows,
    )


def claim(folder: Path, wanted: Description) -> None:
    """Make `folder` the place of this table. Raises InputError if it holds another one."""
    if (folder / FILE).exists():
        refuse_others(folder, wanted)
        return
    with atomic_file(folder / FILE) as temporary:
        temporary.write_text(wanted.to_json() + "\n")


def refuse_others(folder: Path, wanted: Description) -> None:
    """Raise InputError, naming what differs, unless `folder` holds just the wanted table."""
    found = read_description(folder)
    for field in fields(Description):
        ours, theirs = getattr(wanted, field.name), getattr(found, field.name)
        if ours != theirs:
            raise InputError(
                f"{folder}: expected a routing table with {field.name} {_short(ours)}, found one "
                f"with {_short(theirs)}; remove the folder or name another"
            )


def read_description(folder: Path) -> Description:
    """The description of the table in `folder`.

    Raises InputError if it holds none, or one of a task that is not registered.
    """
    path = folder / FILE
    try:
        found = from_json(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{folder}: expected a routing table, found no {FILE} in it") from None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: expected the description of a routing table of format {FORMAT}, found "
            f"something else ({error}); remove {folder} to build it again"
        ) from error
    try:
        find(found.task)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return found


def from_json(text: str) -> Description:
    """The inverse of `Description.to_json`. Raises ValueError, TypeError or KeyError."""
    content: dict[str, Any] = json.loads(text)
    if content.pop("format") != FORMAT:
        raise ValueError("another format")
    content["costs"] = tuple(tuple(cost) for cost in content["costs"])
    for name in ("routes", "madds", "features"):
        content[name] = tuple(content[name])
    return Description(**content)


@torch.no_grad()
def _tells_confidence(model: DSNet, resolution: int) -> bool:
    """Whether the network's outputs tell how sure they are: it is run on one black picture."""
    device = next(model.parameters()).device
    black = torch.zeros(1, 3, resolution, resolution, device=device)
    none = torch.zeros(1, dtype=torch.int64, device=device)
    inputs, _ = model.task.pair(black, none, none)
    return model.task.confidence(model(inputs, width=0)) is not None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
