"""A disk that fills up under a training: one line, its checkpoints whole, and on with room."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dsnet.errors import DiskFullError
from pipeline.store.registry import Version
from pipeline.training import checkpoint
from pipeline.training.worker_group import WorkerGroup
from tests.disk import fill
from tests.pipeline.chain.faults import in_background, run_folder, same, short, supernet_of
from tests.pipeline.chain.pauses import Pause

pytestmark = pytest.mark.slow


def test_a_checkpoint_that_does_not_fit_costs_no_other_and_no_work(
    disk: Path,
    undisturbed: Callable[[str], Version],
    workers: WorkerGroup,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    storage = {"storage": str(disk / "train")}
    config = short("no-room", cluster=storage)
    folder = run_folder(config)
    pause = Pause(tmp_path, step=8)
    training = in_background(config, workers, pause)
    pause.reached(training.done)
    ballast = fill(disk)
    pause.go_on()
    with pytest.raises(DiskFullError) as caught:
        training.result()
    assert str(caught.value).startswith(str(folder))
    assert ": its disk is full (0.0 MB of " in str(caught.value)
    assert f"kept in {disk / 'train'}, and the same command goes on" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "DiskFullError" not in "".join(capfd.readouterr())  # of which Ray prints the trace
    before = checkpoint.newest_whole(folder)
    assert before is not None and not before.report.final
    ballast.unlink()
    assert same(supernet_of(config, workers), undisturbed("adamw"))
