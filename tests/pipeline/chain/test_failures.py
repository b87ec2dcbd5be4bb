"""What is killed in the middle comes back, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from ray.util.state import list_actors

from dsnet.errors import DivergenceError
from pipeline.chain import ChainResult
from pipeline.config import Config
from pipeline.data.dataset import ingest
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.job import Job
from pipeline.stages import supernet
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

EPOCHS = 8


def long(name: str, optimizer: str = "adamw") -> Config:
    """A stage I of many short epochs, checkpoints within each; dropout draws random numbers."""
    supernet = {
        "epochs": EPOCHS,
        "batch_size": 64,
        "optimizer": optimizer,
        "lr": 0.01,
        "checkpoint_steps": 3,
    }
    return configured(
        name=name, model={"arch": "ds_mbnet_digits", "dropout": 0.3}, supernet=supernet
    )


def supernet_of(config: Config, workers: WorkerGroup) -> Version:
    """What stage I of a config registers, on the session's cluster."""
    with tracking.chain_run(config) as run:
        return find_or_train(Job(config, ingest(config), run, workers), supernet.STAGE)


def run_folder(home: Path, config: Config) -> Path:
    """Where stage I keeps its checkpoints."""
    with tracking.chain_run(config) as run:
        key = Job(config, ingest(config), run, WorkerGroup()).fingerprint(supernet.SPEC)
    return home / "train" / f"{config.name}-supernet-{key[:12]}"


def wait_for_checkpoint(folder: Path, after: Path | None = None) -> None:
    """Until there are two whole checkpoints, or one newer than `after`."""
    deadline = time.monotonic() + 240

    def there() -> bool:
        whole = [file.parent for file in folder.glob("checkpoint_*/SHA256SUMS")]
        return len(whole) > 1 if after is None else bool(whole) and max(whole) > after

    while not there():
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.05)


def same(a: Version, b: Version) -> bool:
    """Whether two versions have the same weights, statistics and figures, bit for bit."""
    return (a.tags["content"], a.metrics) == (b.tags["content"], b.metrics)


def epochs_logged(version: Version) -> list[int]:
    history = tracking.client().get_metric_history(version.run_id, "epoch")
    return [int(metric.value) for metric in history]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_whose_driver_and_then_a_worker_was_killed_ends_as_the_undisturbed_one(
    optimizer: str,
    home: Path,
    result: ChainResult,
    workers: WorkerGroup,
    ray_cluster: str,
    tmp_path: Path,
) -> None:
    undisturbed = supernet_of(long(f"undisturbed-{optimizer}", optimizer), workers)
    config = long(f"killed-{optimizer}", optimizer)
    folder = run_folder(home, config)
    if optimizer == "adamw":
        driver_is_killed(config, folder, ray_cluster, tmp_path)
    made: list[Version] = []
    training = threading.Thread(target=lambda: made.append(supernet_of(config, workers)))
    training.start()
    wait_for_checkpoint(folder, after=max(folder.glob("checkpoint_*"), default=None))
    os.kill(a_training_worker(), signal.SIGKILL)
    training.join()
    (version,) = made
    assert same(version, undisturbed)
    assert epochs_logged(version) == list(range(1, EPOCHS + 1))


def driver_is_killed(config: Config, folder: Path, ray_cluster: str, tmp_path: Path) -> None:
    """In the middle of a training; its newest checkpoint is as a lost cable leaves it, altered."""
    before = training_workers()
    file = tmp_path / "config.yaml"
    file.write_text(config.yaml())
    command = [sys.executable, "-m", "jobs.cli", "run", "--config", str(file)]
    environment = os.environ | {"RAY_ADDRESS": ray_cluster}
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_for_checkpoint(folder)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    no_worker_is_left(but=before)
    optimizer = max(folder.glob("checkpoint_*")) / "optimizer.safetensors"
    optimizer.write_bytes(optimizer.read_bytes()[:-1] + b"?")


def test_a_training_that_is_terminated_says_so_and_leaves_nothing_behind(
    home: Path, result: ChainResult, ray_cluster: str, tmp_path: Path
) -> None:
    before = training_workers()
    said = "terminated"
    config = long(said)
    folder = run_folder(home, config)
    file = tmp_path / "config.yaml"
    file.write_text(config.yaml())
    command = [sys.executable, "-m", "jobs.cli", "run", "--config", str(file)]
    environment = os.environ | {"RAY_ADDRESS": ray_cluster}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_checkpoint(folder)
        driver.send_signal(signal.SIGTERM)
        _, errors = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == f"dsnet: {said}"
    assert "Traceback" not in errors and "*** SIG" not in errors
    no_worker_is_left(but=before, within=10)
    runs = runs_called(said)
    assert len(runs) == 2  # the chain's and its stage's
    assert {run.info.status for run in runs} == {"KILLED"}
    assert not [v for v in registry.versions() if v.name.startswith(said)]


def test_two_runs_of_one_configuration_at_once_train_once(home: Path, result: ChainResult) -> None:
    config = configured(
        name="twice", cluster={"workers": 1}, supernet={"epochs": 1, "warmup_epochs": 0}
    )
    made: list[Version] = []

    def run() -> None:
        with WorkerGroup() as workers:
            made.append(supernet_of(config, workers))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert registry.versions("twice-supernet") == made[:1]


def runs_called(name: str) -> list[Run]:
    """The MLflow runs of the last chain of that name: its own, and those of its stages."""
    client = tracking.client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    chains = client.search_runs(ids, f"tags.mlflow.runName = '{name}'", max_results=1)
    parent = chains[0].info.run_id
    return [*chains, *client.search_runs(ids, f"tags.mlflow.parentRunId = '{parent}'")]


def test_a_training_that_diverges_says_which_loss_when_and_registers_nothing(
    home: Path, result: ChainResult, workers: WorkerGroup
) -> None:
    config = configured(name="diverging", supernet={"epochs": 2, "lr": 1e6, "warmup_epochs": 0})
    with pytest.raises(DivergenceError) as caught:
        supernet_of(config, workers)
    assert "at step " in str(caught.value) or "after step " in str(caught.value)
    assert "width" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [v for v in registry.versions() if v.name.startswith("diverging")]


def no_worker_is_left(but: list[int], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while set(training_workers()) - set(but):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def a_training_worker() -> int:
    """Process id of a live Ray Train worker."""
    workers = training_workers()
    if not workers:
        pytest.fail("no training worker is alive")
    return workers[0]


def training_workers() -> list[int]:
    """Process ids of the live Ray Train workers."""
    alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
    return [int(worker.pid) for worker in list_actors(filters=alive, detail=True)]
