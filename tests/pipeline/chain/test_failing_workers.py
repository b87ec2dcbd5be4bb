"""What a worker raises ends in one clear error, and the same workers are there for what comes."""

import os
from pathlib import Path
from typing import Any

import pytest
from ray.train import TrainingFailedError

from dsnet.errors import InputError
from pipeline.config import Config
from pipeline.store import tracking
from pipeline.training.worker import Worker
from pipeline.training.worker_group import StageResult, WorkerGroup
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.slow


def ran(loop: Any, workers: WorkerGroup, config: Config, key: str) -> StageResult:
    with tracking.chain_run(config) as run:
        return workers.run("trial", loop, None, config, fingerprint=key, run=run)


def test_a_wrong_input_and_a_bug_end_the_stage_and_not_what_comes_after_it(
    home: Path, workers: WorkerGroup, capfd: pytest.CaptureFixture[str]
) -> None:
    # Plain functions of this module would be imported by workers, and all that it imports.
    def refused(worker: Worker, _: object) -> None:
        if worker.rank == 1:
            raise InputError("data.source: expected pictures, found none")
        worker.gather_bytes(b"")  # it waits for the other

    def quits(worker: Worker, _: object) -> None:
        raise SystemExit(0)  # as a plugin may

    def broken(worker: Worker, _: object) -> None:
        raise RuntimeError(f"a bug on rank {worker.rank}")

    def sound(worker: Worker, _: object) -> None:
        pids = worker.gather_bytes(str(os.getpid()).encode())
        worker.report({"workers": len({*pids})}, lambda folder: None, final=True)

    config = configured(name="failing", cluster={"workers": 2, "max_failures": 0})
    with pytest.raises(InputError) as wrong:
        ran(refused, workers, config, "refused")
    assert str(wrong.value) == "data.source: expected pictures, found none"
    with pytest.raises(InputError, match=r"found one that ends its worker \(sys\.exit\(0\)\)"):
        ran(quits, workers, config, "quits")
    assert "InputError" not in "".join(capfd.readouterr())  # of which Ray Train prints the trace
    with pytest.raises(TrainingFailedError, match=r"a bug on rank [01]"):
        ran(broken, workers, config, "broken")
    assert ran(sound, workers, config, "sound").metrics == {"workers": 2}
