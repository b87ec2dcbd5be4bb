"""A stage that goes on goes on in its MLflow run, and what a killed driver left is ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.store import tracking
from pipeline.store.metric_log import MetricLog
from tests.embedded_store import embedded_store

ROOT = Path(__file__).parents[3]

KILLED = """
import os, signal, sys
from pipeline.config import Config
from pipeline.store import tracking

with tracking.chain_run(Config(name="resumed")) as chain:
    with tracking.stage_run(chain, "supernet", {"fingerprint": "f"}) as stage:
        for step in (10, 20, 30):
            stage.log({"loss": step / 10}, step=step)
        stage.log({"top1": 0.5}, step=1)
        print(chain.id, stage.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        tracking.configure()
        yield folder


def points(run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    return [(m.step, m.value) for m in tracking.client().get_metric_history(run_id, name)]


def test_the_stage_of_a_killed_driver_goes_on_in_its_run(
    embedded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    old_chain, old_stage = killed.stdout.split()
    caplog.set_level("INFO")
    with (
        tracking.chain_run(Config(name="resumed")) as chain,
        tracking.stage_run(chain, "supernet", {"fingerprint": "f"}) as stage,
    ):
        client = tracking.client()
        assert client.get_run(old_chain).info.status == "KILLED"
        assert client.get_run(old_stage).info.status == "RUNNING"
        assert stage.id == old_stage
        # What went before is told again, as after a restart from a checkpoint.
        for step in (20, 30, 40):
            stage.log({"loss": step / 10}, step=step)
        for epoch in (1, 2):
            stage.log({"top1": epoch / 2}, step=epoch)
    after = tracking.client().get_run(old_stage)
    assert after.info.status == "FINISHED"
    assert after.data.tags["mlflow.parentRunId"] == chain.id != old_chain
    assert points(old_stage, "loss") == [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]
    assert points(old_stage, "top1") == [(1, 0.5), (2, 1.0)]
    (said,) = [r.getMessage() for r in caplog.records if "goes on in" in r.getMessage()]
    assert said.endswith(f"MLflow run {old_stage}, which was killed at step 30")


def test_a_stage_that_failed_goes_on_and_one_that_finished_begins_anew(embedded: Path) -> None:
    ids = []
    with tracking.chain_run(Config(name="again")) as chain:
        for fails in (True, False, False):
            try:
                with tracking.stage_run(chain, "gate", {"fingerprint": "f"}) as stage:
                    ids.append(stage.id)
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
    assert ids[0] == ids[1] != ids[2]


def test_a_run_that_somebody_is_at_is_left_alone(embedded: Path) -> None:
    with (
        tracking.chain_run(Config(name="busy")) as chain,
        tracking.stage_run(chain, "gate", {"fingerprint": "f"}) as first,
        tracking.chain_run(Config(name="busy")) as other,
        tracking.stage_run(other, "gate", {"fingerprint": "f"}) as second,
    ):
        assert first.id != second.id
        assert tracking.client().get_run(str(first.id)).info.status == "RUNNING"


def test_what_another_chain_or_another_stage_left_is_not_taken(embedded: Path) -> None:
    ids = []
    for name, stage, key in (("a", "gate", "f"), ("b", "gate", "f"), ("a", "table", "f")):
        with (  # noqa: PT012
            pytest.raises(ZeroDivisionError),
            tracking.chain_run(Config(name=name)) as chain,
            tracking.stage_run(chain, stage, {"fingerprint": key}) as run,
        ):
            ids.append(run.id)
            raise ZeroDivisionError
    assert len(set(ids)) == 3


def test_a_step_that_is_told_twice_is_logged_once(embedded: Path) -> None:
    with tracking.stage_run(None, "gate") as run:
        assert isinstance(run.metrics, MetricLog)
        for step in (1, 2, 1, 2, 3):
            run.log({"loss": float(step)}, step=step)
    assert points(run.id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
