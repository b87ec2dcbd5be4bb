"""What surrounds a training: from nothing to the end of a stage that trains for a moment."""

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import RunConfig, ScalingConfig
from torch import Tensor

from dsnet import DSNet
from jobs.bench.interleaved import Figure, compare
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline.cluster import ray_cluster
from pipeline.config import Config, config_from_dict, home
from pipeline.data.dataset import ingest
from pipeline.data.loader import Batch
from pipeline.stages import supernet
from pipeline.stages.stage import Upstream
from pipeline.store import tracking
from pipeline.training.worker import Assignment, TrainWorker, Worker
from pipeline.training.worker_group import WorkerGroup

CONFIG: dict[str, Any] = {
    "name": "overhead",
    "data": {"source": "digits", "recipe": "digits"},
    "model": {"arch": "ds_mbnet_digits", "dropout": 0.0},
    "cluster": {"workers": 2},
    "supernet": {"epochs": 1, "warmup_epochs": 0, "batch_size": 64},
}

# What is between two marks; a loop that does nothing has no batch, no report.
PARTS = {
    "ray.init": ("start", "connected"),
    "controller and processes": ("connected", "process"),
    "imports and set-up": ("process", "loop"),
    "first batch": ("loop", "batch"),
    "epoch and evaluation": ("batch", "report"),
    "report and checkpoint": ("report", "reported"),
    "teardown": ("left", "ended"),
    "ray.shutdown": ("ended", "stopped"),
    "all but Ray": ("connected", "ended"),
}


def bench(options: Options) -> list[Record]:
    """Seconds around a one-epoch stage I on the digits with two workers, part by part.

    Against the least that Ray Train takes: two workers that do nothing. Each run starts a cluster
    of its own.
    """
    config = config_from_dict(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            os.environ.pop(variable, None)
        tracking.configure(Path(folder))
        with tracking.chain_run(config) as run:
            return compare(
                "overhead",
                {
                    "nothing": partial(_measured, config, _run_nothing),
                    "stage": partial(_measured, config, _stage(config, run)),
                },
                against="nothing",
                runs=options.runs,
                warmups=0 if options.quick else 1,
            )


def _run_nothing(marks: "Marks") -> None:
    TorchTrainer(
        _nothing,
        train_loop_config={"marks": str(marks.path)},
        scaling_config=ScalingConfig(num_workers=CONFIG["cluster"]["workers"]),
        run_config=RunConfig(name=marks.path.stem, storage_path=str(home())),  # type: ignore[arg-type]
    ).fit()


def _stage(config: Config, run: tracking.Run) -> Callable[["Marks"], None]:
    inputs = supernet.Inputs.of(Upstream(config, ingest(config)))

    def work(marks: Marks) -> None:
        watched = _Inputs(inputs, marks.path)
        with WorkerGroup() as workers:
            workers.run("supernet", _watched, watched, config, fingerprint=marks.path.stem, run=run)

    return work


class Marks:
    """Moments, in seconds since the epoch, that several processes note in one file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def note(self, name: str, moment: float | None = None) -> None:
        """`name` happens now, or happened at `moment`. Of several, the first counts."""
        with self.path.open("a") as file:
            file.write(json.dumps([name, time.time() if moment is None else moment]) + "\n")

    def read(self) -> dict[str, float]:
        lines = self.path.read_text().splitlines()
        return dict(json.loads(line) for line in reversed(lines))


def _measured(config: Config, work: Callable[[Marks], None]) -> list[Figure]:
    marks = Marks(home() / f"{uuid.uuid4().hex}.marks")
    marks.note("start")
    ray_cluster.connect(config.cluster)
    marks.note("connected")
    work(marks)
    marks.note("ended")
    ray.shutdown()
    marks.note("stopped")
    moments = marks.read()
    return [
        Figure(moments[end] - moments[begin], "s", part)
        for part, (begin, end) in PARTS.items()
        if begin in moments and end in moments
    ]


# On the workers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """Stage I's inputs, and the file of the marks."""

    stage: supernet.Inputs
    marks: Path


def _nothing(settings: dict[str, str]) -> None:
    if ray.train.get_context().get_world_rank() == 0:
        _note_start(Marks(settings["marks"]))
        Marks(settings["marks"]).note("left")


def _watched(worker: Worker, inputs: _Inputs) -> None:
    """Stage I, whose first worker notes what it comes to."""
    if worker.rank > 0:
        supernet.loop(worker, inputs.stage)
        return
    assert isinstance(worker, TrainWorker)
    with closing(_Watched(worker.assignment, Marks(inputs.marks))) as watched:
        _note_start(watched.marks)
        supernet.loop(watched, inputs.stage)
        watched.marks.note("left")


class _Watched(TrainWorker):
    def __init__(self, assignment: Assignment, marks: Marks) -> None:
        super().__init__(assignment)
        self.marks = marks

    def batches(self, batches: Iterator[Batch], model: DSNet) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().batches(batches, model):
            self.marks.note("batch")
            yield batch

    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        *,
        final: bool = False,
        best: float | None = None,
    ) -> None:
        self.marks.note("report")
        super().report(metrics, write, final=final, best=best)
        self.marks.note("reported")


def _note_start(marks: Marks) -> None:
    """When this process started, and that its loop has begun."""
    # Past its name, which may hold anything: field 22, in ticks since the machine started.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    marks.note("process", time.time() - age)
    marks.note("loop")
