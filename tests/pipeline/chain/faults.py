"""A short stage I for things to happen to, here or below a driver in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any, Self

import psutil
from mlflow.entities import Run

from pipeline.config import Config, stage_dir
from pipeline.data.dataset import ingest
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.job import Job
from pipeline.stages import supernet
from pipeline.stages.stage import Stage
from pipeline.store import tracking
from pipeline.store.registry import Version
from pipeline.training import checkpoint
from pipeline.training.state import PROGRESS
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured
from tests.pipeline.chain.pauses import Pause, Where
from tests.pipeline.chain.recorded import Record

EPOCHS = 3
STEPS = EPOCHS * 10
INTERVAL = 3
"""Steps from one checkpoint to the next."""
OPTIMIZERS = ("adamw", "sgd")


def short(
    name: str, optimizer: str = "adamw", epochs: int = EPOCHS, **sections: dict[str, object]
) -> Config:
    """A stage I of few short epochs, checkpoints within each; dropout draws random numbers."""
    supernet = {
        "epochs": epochs,
        "batch_size": 64,
        "optimizer": optimizer,
        "lr": 0.01,
        "checkpoint_steps": INTERVAL,
    }
    model = {"arch": "ds_mbnet_digits", "dropout": 0.3}
    return configured(name=name, model=model, supernet=supernet, **sections)


def supernet_of(
    config: Config, workers: WorkerGroup, stage: Stage[Any] = supernet.STAGE
) -> Version:
    """What stage I of a config registers."""
    with tracking.chain_run(config) as run:
        return find_or_train(Job(config, ingest(config), run, workers), stage)


def in_background(config: Config, workers: WorkerGroup, *pauses: Pause) -> Future[Version]:
    """The same, with pauses, in a thread."""
    stage = reduce(lambda stage, pause: pause.within(stage), pauses, supernet.STAGE)
    pool = ThreadPoolExecutor(1)
    training = pool.submit(supernet_of, config, workers, stage)
    pool.shutdown(wait=False)
    return training


def run_folder(config: Config) -> Path:
    """Where stage I keeps its checkpoints."""
    with tracking.chain_run(config) as run:
        key = Job(config, ingest(config), run, WorkerGroup()).fingerprint(supernet.SPEC)
    return stage_dir(config, "supernet", key)


def steps_saved(config: Config) -> int:
    """How many steps stage I has done by its newest whole checkpoint."""
    newest = checkpoint.newest_whole(run_folder(config))
    if newest is None:
        return 0
    progress = json.loads((newest.folder / PROGRESS).read_text())
    return int(progress["epoch"]) * STEPS // EPOCHS + int(progress["step"])


def same(a: Version, b: Version) -> bool:
    """Whether two versions have the same weights, statistics and figures, bit for bit."""
    return (a.tags["content"], a.metrics) == (b.tags["content"], b.metrics)


def epochs_logged(version: Version) -> list[int]:
    """What MLflow has of them, in order."""
    history = tracking.client().get_metric_history(version.run_id, "epoch")
    return [int(metric.value) for metric in history]


def runs_called(name: str) -> list[Run]:
    """The MLflow runs of the last chain of that name: its own, and those of its stages."""
    client = tracking.client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    chains = client.search_runs(ids, f"tags.run_of = '{name}'", max_results=1)
    parent = chains[0].info.run_id
    return [*chains, *client.search_runs(ids, f"tags.mlflow.parentRunId = '{parent}'")]


class Driver:
    """A chain or sweep in its own process, whose stage I pauses and writes down what it reads.

    With no RAY_ADDRESS among `variables` it starts a cluster of its own.
    """

    def __init__(
        self,
        config: Config,
        pause: Pause,
        folder: Path,
        seconds: float = 0.0,
        command: Sequence[str] = ("run",),
        **variables: str,
    ) -> None:
        """seconds: added to each batch, for a training that takes longer. command: of `dsnet`."""
        self.pause = pause
        self.record = Record(pause.folder, seconds)
        file = folder / f"{config.name}.yaml"
        file.write_text(config.yaml())
        where = [str(file), str(pause.folder), str(pause.step), str(pause.rank)]
        where += [str(seconds)]
        others = left_by_the_session()
        ours = {name: text for name, text in os.environ.items() if name not in others}
        self._log = (folder / f"{config.name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.chain.driver", *where, *command],
            env=ours | variables,
            stderr=self._log,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def paused(self) -> Where:
        """Wait until its stage I pauses."""
        return self.pause.reached(lambda: self._process.poll() is not None)

    def processes(self) -> list[psutil.Process]:
        """It, and all that it or these have started."""
        driver = psutil.Process(self._process.pid)
        return [driver, *driver.children(recursive=True)]

    def says(self, line: str, within: float = 120) -> None:
        """Wait until it says something with that in it."""
        deadline = time.monotonic() + within
        while line not in (said := Path(self._log.name).read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)

    def signal(self, number: int, group: bool = False) -> None:
        """Send it a signal, or to all that it has started too."""
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def ends(self, within: float) -> tuple[int, list[str]]:
        """Wait until it does; its status, and the lines it said."""
        status = self._process.wait(within)
        return status, Path(self._log.name).read_text().splitlines()


def left_by_the_session() -> list[str]:
    """The variables that its cluster has put into this process's environment, for no other one."""
    return [n for n in os.environ if n.startswith("RAY_") and not n.startswith("RAY_AUTH")]


def none_left(processes: list[psutil.Process], within: float = 30) -> None:
    """Assert that they are gone by then: ten seconds, but for a machine that is busy."""
    names = {process: process.name() for process in processes if process.is_running()}
    _, left = psutil.wait_procs(processes, timeout=within)
    assert not [names.get(process, process) for process in left if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    """As the kernel does where memory is short."""
    os.kill(pid, signal.SIGKILL)
