"""A tracking server that is killed under a training: its curves are whole, its work registered."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store import registry, tracking
from pipeline.store.outage import StoreError
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.mlflow_server import MLflowServer
from tests.pipeline.chain.faults import in_background, same, short
from tests.pipeline.chain.pauses import Pause

pytestmark = pytest.mark.slow

Curves = dict[str, list[tuple[int, float]]]


def curves(run: str | None) -> Curves:
    """Of a run, by name: step and value, in the order in which MLflow has them: steps that rise."""
    assert run is not None
    client = tracking.client()
    found = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run, name)]
        for name in client.get_run(run).data.metrics
    }
    for points in found.values():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
    by_the_clock = ("throughput/", "running/", "system/")
    return {name: found[name] for name in found if not name.startswith(by_the_clock)}


def test_a_server_away_in_the_middle_and_then_at_the_end(
    undisturbed: Callable[[str], Version],
    workers: WorkerGroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    expected = undisturbed("adamw")
    whole = curves(expected.run_id)
    server = MLflowServer(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    config = short("away")
    # In the second epoch, in the third, and shortly before the end.
    away, back, gone = (Pause(tmp_path, step=step) for step in (12, 25, 28))
    try:
        training = in_background(config, workers, away, back, gone)
        away.reached(training.done)
        server.stop(signal.SIGKILL)
        away.go_on()
        back.reached(training.done)
        time.sleep(request.config.getoption("away"))
        server.start()
        back.go_on()
        gone.reached(training.done)
        monkeypatch.setenv("DSNET_STORE_PATIENCE", "2")
        caplog.clear()
        server.stop(signal.SIGKILL)
        gone.go_on()
        with pytest.raises(StoreError) as caught:
            training.result()
        said = str(caught.value)
        assert f"{server.uri}: no answer in 2 s" in said and "run the same command again" in said
        assert "what was trained is kept in" in said and "\n" not in said
        waits = [r.getMessage() for r in caplog.records if "waiting for it" in r.getMessage()]
        assert len(waits) == 1, "said at once, and once"

        server.start()
        monkeypatch.setenv("DSNET_STORE_PATIENCE", "60")
        again = Pause(tmp_path / "again", step=30)  # no step is taken again
        version = in_background(config, workers, again).result()
        assert same(version, expected)
        assert registry.versions(version.name) == [version]
        assert curves(version.run_id) == whole
    finally:
        server.stop(signal.SIGKILL)
