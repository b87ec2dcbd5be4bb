"""Routing tables on disk with rows made up by hand, so that a search needs no network and no data.

Each image needs one of the paths, and its feature says which: a gate that learns sends nearly all
of them right, and one that does not is no better than lots.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from dsnet.routing import Paths, RoutingTable
from dsnet.tasks.registry import CLASSIFICATION
from pipeline.routing_table.description import Description, claim, read_description
from pipeline.routing_table.shards import shards_of, write_shard
from pipeline.runner.tables import Tables

PARTS = ("train", "holdout")


def make_tables(
    folder: Path,
    rows: int = 900,
    holdout: int = 300,
    features: int = 6,
    paths: int = 3,
    parts: Sequence[str] = PARTS,
) -> Tables:
    """Tables of one gate, for training and held out; features: how many the gate sees."""
    for number, part in enumerate(parts):
        images = rows if part == "train" else holdout
        description = describe(part, images, features, paths)
        claim(folder / part, description)
        for shard in shards_of(description):
            made = _rows(shard.first, len(shard), features, description.paths, seed=number)
            write_shard(folder / part, shard, description, made)
    return tables_in(folder)


def tables_in(folder: Path) -> Tables:
    """The tables that `make_tables` left there."""
    return Tables(folder, {part: read_description(folder / part) for part in PARTS})


def describe(part: str, rows: int, features: int, paths: int) -> Description:
    """Of a table of one gate; its paths cost 40 to 100."""
    madds = tuple(int(40 + 60 * path / (paths - 1)) for path in range(paths))
    return Description(
        supernet="models:/made-supernet/1",
        fingerprint="f" * 64,
        task=CLASSIFICATION.name,
        dataset="d" * 64,
        part=part,
        images=rows,
        indices="i" * 64,
        views=1 if part == "train" else 0,
        recipe="digits",
        resolution=8,
        seed=0,
        routes=(paths,),
        madds=madds,
        costs=(tuple(count / madds[-1] for count in madds),),
        features=(features,),
        prefix=0,
        confidences=True,
        evidence=0,
        shard_rows=16384,
    )


def _rows(first: int, n: int, features: int, paths: Paths, seed: int) -> RoutingTable:
    """Rows of which each needs one path or a wider one, and shows it in its first features."""
    generator = torch.Generator().manual_seed(1000 * first + seed)
    count = len(paths)
    need = torch.randint(count, (n,), generator=generator)
    seen = torch.rand(n, 1, features, generator=generator)
    seen[torch.arange(n), 0, need % features] += 1 + need // features
    losses = torch.where(torch.arange(count) >= need[:, None], 0.1, 2.0)
    return RoutingTable(
        task=CLASSIFICATION,
        paths=paths,
        features=(seen,),
        losses=losses,
        measures={"top1": losses < 1, "top5": torch.ones_like(losses, dtype=torch.bool)},
        confidences=(-losses).exp(),
        labels=torch.zeros(n, dtype=torch.int64),
        samples=torch.arange(first, first + n),
        views=torch.zeros(n, dtype=torch.int64),
    )
