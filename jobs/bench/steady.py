"""Epochs of stage I by two processes, under Ray Train and under torch.distributed alone.

The loop is the same, and so are network, images, batches and threads; what differs is who started
the processes, who watches them, and where reports go. The first epochs are left out: loaders are
compiled in them.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import ray
import torch
import torch.distributed as dist

from jobs.bench.interleaved import Figure
from jobs.bench.team import Works, team
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.stages import supernet
from pipeline.stages.stage import Upstream
from pipeline.store import tracking
from pipeline.training.local_worker import LocalWorker
from pipeline.training.ray_worker import TrainWorker
from pipeline.training.worker import Worker
from pipeline.training.worker_group import WorkerGroup

CONFIG: dict[str, Any] = {
    "name": "overhead",
    "data": {"source": "digits", "recipe": "digits"},
    "model": {"arch": "ds_mbnet_digits", "dropout": 0.0},
    "cluster": {"workers": 2},
    "supernet": {"epochs": 1, "warmup_epochs": 0, "batch_size": 64},
    "gate": {"method": "straight_through", "epochs": 1, "target": 0.5},
}
EPOCHS = 20
FIRST = 2  # epochs that are left out
WORKERS = CONFIG["cluster"]["workers"]
Moment = tuple[float, float]
"""The clock and this process's CPU seconds, when an epoch was reported."""


def on_ray(epochs: int) -> list[Figure]:
    """By workers of Ray Train, in a cluster of its own."""
    with tempfile.TemporaryDirectory() as folder:
        config, inputs = _prepared(folder, epochs)
        moments = Path(folder, "moments")
        with tracking.chain_run(config) as run, WorkerGroup() as workers:
            loop = partial(_watched, moments=moments)
            workers.run("supernet", loop, inputs, config, fingerprint="steady", run=run)
        ray.shutdown()
        return _figures([json.loads(line) for line in moments.read_text().splitlines()])


def plain(epochs: int) -> list[Figure]:
    """By processes with a group over gloo, and no Ray."""
    with tempfile.TemporaryDirectory() as folder:
        config, inputs = _prepared(folder, epochs)
        make = partial(_trainings, config, inputs, folder)
        with team(WORKERS, config.cluster.threads, make) as call:
            moments: Any = call("train")[0]
        return _figures(moments)


def _prepared(folder: str, epochs: int) -> tuple[Config, supernet.Inputs]:
    """A chain's configuration with stage I as long as that, its store and data in the folder."""
    tracking.configure(Path(folder))
    section = {**CONFIG["supernet"], "epochs": epochs, "batch_size": 16}
    config = config_from_dict({**CONFIG, "supernet": section})
    return config, supernet.Inputs.of(Upstream(config, ingest(config)))


def _figures(moments: list[Moment]) -> list[Figure]:
    """An epoch's median, by the clock and in CPU seconds of one worker."""
    kept = moments[min(FIRST, len(moments) - 2) :]
    walls, cpus = (
        [1000 * (after[k] - before[k]) for before, after in pairwise(kept)] for k in (0, 1)
    )
    return [
        Figure(median(walls), "ms/epoch"),
        Figure(sum(cpus) / len(cpus), "CPU ms/epoch", "CPU"),
    ]


def _now() -> Moment:
    return time.time(), time.process_time()


# On the workers ----------------------------------------------------------------------------------


def _watched(worker: Worker, inputs: supernet.Inputs, moments: Path) -> None:
    """Stage I, whose first worker writes to a file when each epoch was reported."""
    if worker.rank > 0:
        return supernet.loop(worker, inputs)
    assert isinstance(worker, TrainWorker)
    with closing(_Watched(worker, moments)) as watched:
        supernet.loop(watched, inputs)


class _Watched(TrainWorker):
    def __init__(self, worker: TrainWorker, moments: Path) -> None:
        super().__init__(worker.config, worker.run_folder, worker.queue, worker.number)
        self.moments = moments

    def report(self, *reported: Any, **how: Any) -> None:
        super().report(*reported, **how)
        with self.moments.open("a") as file:
            file.write(json.dumps(_now()) + "\n")


def _trainings(config: Config, inputs: supernet.Inputs, folder: str) -> Works:
    def train() -> list[Moment]:
        with closing(_Plain(config, Path(folder))) as worker:
            supernet.loop(worker, inputs)
        return worker.moments

    return {"train": train}


class _Plain(LocalWorker):
    """A process of torch.distributed, whose first rank writes checkpoints; nothing is resumed."""

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config, folder / "checkpoint")
        Worker.__init__(self, config, dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
        self.moments: list[Moment] = []

    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        **how: Any,
    ) -> None:
        super().report(metrics, write if self.rank == 0 else None, **how)
        self.moments.append(_now())

    def resume(self, restore: Callable[[Path], None]) -> None:
        pass
