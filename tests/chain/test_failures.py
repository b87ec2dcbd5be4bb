"""What dies in the middle comes back: workers killed by SIGKILL."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from ray.util.state import list_actors

from pipeline import chain, tracking
from pipeline.chain import ChainResult
from pipeline.registry import Version
from pipeline.stage import Job
from tests.chain.conftest import configured

EPOCHS = 60


def test_a_killed_worker_loses_at_most_one_checkpoint_interval(
    home: Path, result: ChainResult
) -> None:
    config = configured(
        name="killed", supernet={"epochs": EPOCHS, "checkpoint_every": 5, "warmup_epochs": 1}
    )
    made: list[Version] = []
    with tracking.chain_run(config) as run:
        job = Job(config, chain.ingest(config), run)
        training = threading.Thread(target=lambda: made.append(chain.supernet(job)))
        training.start()
        folder = home / "train" / f"killed-supernet-{job.fingerprint('supernet')[:12]}"
        deadline = time.monotonic() + 180
        while not list(folder.glob("checkpoint_*/progress.json")):
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.05)
        os.kill(a_training_worker(), signal.SIGKILL)
        training.join()
    client = tracking.client()
    (version,) = made
    epochs = [int(m.value) for m in client.get_metric_history(version.run_id, "epoch")]
    assert set(epochs) == set(range(1, EPOCHS + 1))
    repeated = len(epochs) - EPOCHS
    assert 0 <= repeated <= 5


def a_training_worker() -> int:
    """Process id of a live Ray Train worker."""
    workers = list_actors(
        filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")], detail=True
    )
    if not workers:
        pytest.fail("no training worker is alive")
    return int(workers[0].pid)
