"""The routing table on Ray Train: every worker builds some of its shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dsnet
from pipeline.data.manifest import Beton
from pipeline.routing_table.description import Description
from pipeline.routing_table.shards import Shard, read_shard
from pipeline.stages.stage import Stage
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.worker import Worker

SPEC = Spec(
    "table",
    revision=3,
    fields=(*PICTURES, "model.routes", "table.views"),
)


@dataclass(frozen=True)
class Part:
    """The table of one part of the data."""

    beton: Beton
    indices: np.ndarray
    """Numbers in the beton of the table's images, in order."""
    folder: Path
    description: Description
    missing: list[Shard]
    """What is still to be built."""


@dataclass(frozen=True)
class Inputs:
    """What building tables reads."""

    model: Path
    """Model directory of the calibrated supernet, with the routes that gates may pick."""
    parts: list[Part]


def loop(worker: Worker, inputs: Inputs) -> None:
    """Build this worker's share of the missing shards, whatever their part; whole ones are kept."""
    from pipeline.routing_table.build import build  # it brings FFCV, which plans can do without

    model = dsnet.load(inputs.model, worker.device)
    missing = [(part, shard) for part in inputs.parts for shard in part.missing]
    mine = shares([len(shard) for _, shard in missing], worker.world_size)[worker.rank]
    total = sum(len(missing[index][1]) for index in mine)
    done = 0
    for part, shard in (missing[index] for index in mine):
        before = done
        done += len(shard)
        # A worker that died and came back finds what it had finished.
        if read_shard(part.folder, shard, part.description) is not None:
            continue

        def show(rows: int, before: int = before) -> None:
            worker.progress(before + rows, total)

        build(
            model,
            part.beton,
            part.indices,
            part.folder,
            part.description,
            [shard],
            batch_size=worker.config.table.batch_size,
            threads=worker.config.cluster.threads,
            progress=show,
        )
    worker.report(
        {"rows": done}, lambda folder: (folder / "rows").write_text(str(done)), final=True
    )


STAGE = Stage(SPEC, Inputs, loop)


def shares(sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Which of several pieces of work each worker does: the largest first, each to the least busy.

    Returns for each worker indices into `sizes`; all workers find the same.
    """
    busy = [0] * workers
    given: list[list[int]] = [[] for _ in busy]
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        least = busy.index(min(busy))
        given[least].append(index)
        busy[least] += sizes[index]
    return given
