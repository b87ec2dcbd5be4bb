"""The routing table on Ray Train: every worker builds some of its shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import dsnet
from pipeline.routing_table.build import build
from pipeline.routing_table.description import Description
from pipeline.routing_table.shards import Shard, read_shard
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.worker import Worker

SPEC = Spec(
    "table",
    revision=2,
    fields=(*PICTURES, "model.routes", "table.views"),
)

Part = tuple[str, np.ndarray, Path, Description, list[Shard]]


def loop(worker: Worker) -> None:
    """Build this worker's share of the missing shards, whatever their part; whole ones are kept.

    settings: "model", the calibrated supernet's model directory; "parts", for each part of the data
    its beton, indices, folder, Description and missing shards.
    """
    model = dsnet.load(worker.settings["model"], worker.device)
    parts: list[Part] = worker.settings["parts"]
    missing = [(part, shard) for part in parts for shard in part[4]]
    mine = shares([len(shard) for _, shard in missing], worker.world_size)[worker.rank]
    total = sum(len(missing[index][1]) for index in mine)
    done = 0
    for (beton, indices, folder, description, _), shard in (missing[index] for index in mine):
        before = done
        done += len(shard)
        # A worker that died and came back finds what it had finished.
        if read_shard(folder, shard, description) is not None:
            continue

        def show(rows: int, before: int = before) -> None:
            worker.progress(before + rows, total)

        build(
            model,
            beton,
            indices,
            folder,
            description,
            [shard],
            batch_size=worker.config.table.batch_size,
            threads=worker.config.cluster.threads,
            progress=show,
        )
    worker.report(
        {"rows": done}, lambda folder: (folder / "rows").write_text(str(done)), final=True
    )


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
