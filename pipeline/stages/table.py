"""The routing table on Ray Train: every worker builds some of its shards."""

from pathlib import Path

import numpy as np

import dsnet
from pipeline.table import Description, build
from pipeline.table.shards import read_shard, shards_of
from pipeline.worker import Worker


def loop(worker: Worker) -> None:
    """Build the shards that are missing, of every part; whole ones are kept.

    settings: "model", the calibrated supernet's model directory; "parts", for each part of the data
    its beton, indices, folder and Description.
    """
    model = dsnet.load(worker.settings["model"], worker.device)
    parts: list[tuple[str, np.ndarray, Path, Description]] = worker.settings["parts"]
    total = sum(description.rows for *_, description in parts) // worker.world_size
    done = 0
    for beton, indices, folder, description in parts:
        mine = shards_of(description)[worker.rank :: worker.world_size]
        missing = [shard for shard in mine if read_shard(folder, shard, description) is None]
        done += sum(len(shard) for shard in mine) - sum(len(shard) for shard in missing)
        before = done

        def show(rows: int, before: int = before) -> None:
            worker.progress(min(before + rows, total), total)

        build(
            model,
            beton,
            indices,
            folder,
            description,
            missing,
            batch_size=worker.config.table.batch_size,
            threads=worker.config.cluster.threads,
            progress=show,
        )
        done += sum(len(shard) for shard in missing)
    worker.report({"rows": done}, lambda folder: (folder / "rows").write_text(str(done)))
