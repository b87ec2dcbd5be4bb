"""A server that is killed: metrics follow when it is back, and what was trained is registered."""

import signal
import time
from pathlib import Path

import pytest
import torch

import dsnet
from dsnet.errors import InputError
from jobs import cli
from pipeline.config import Config
from pipeline.store import outage, registry, tracking
from pipeline.store.outage import StoreError
from tests.mlflow_server import MLflowServer

TAGS = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
METRICS = {"top1": 0.975, "average_madds": 123456.75}


@pytest.mark.slow  # a server of its own, which it kills and starts twice
def test_a_server_that_is_killed_costs_no_metric_and_no_trained_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = MLflowServer(tmp_path)
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    model = dsnet.save(dsnet.create_model("ds_mbnet_digits", num_classes=10), tmp_path / "model")
    config = Config(name="outage")
    try:
        # In the middle: away for a while.
        with (
            tracking.chain_run(config) as chain,
            tracking.stage_run(chain, "supernet", {"fingerprint": "f"}) as stage,
        ):
            for step in range(5):
                stage.log({"loss": float(step)}, step=step)
            server.stop(signal.SIGKILL)
            for step in range(5, 10):
                started = time.monotonic()
                stage.log({"loss": float(step)}, step=step)
                assert time.monotonic() - started < 3
            server.start()
            for step in range(10, 15):
                stage.log({"loss": float(step)}, step=step)
        history = tracking.client().get_metric_history(str(stage.id), "loss")
        assert [(m.step, m.value) for m in history] == [(s, float(s)) for s in range(15)]

        # At the end: away for good.
        monkeypatch.setenv("DSNET_STORE_PATIENCE", "2")
        caplog.clear()
        started = time.monotonic()
        with (  # noqa: PT012
            pytest.raises(StoreError) as caught,
            tracking.chain_run(config) as chain,
            tracking.stage_run(chain, "calibrate", {"fingerprint": "g"}) as stage,
        ):
            stage.log({"holdout": 0.5}, step=1)
            server.stop(signal.SIGKILL)
            stage.log({"holdout": 0.75}, step=2)
            register(model, stage)
        assert time.monotonic() - started < 20
        said = str(caught.value)
        assert said.startswith(f"MLflow store {server.uri}: no answer in 2 s (connection refused)")
        assert f"what was trained is kept in {tmp_path / 'home' / 'train'}" in said
        assert "\n" not in said
        waits = [r.getMessage() for r in caplog.records if "waiting for it" in r.getMessage()]
        assert len(waits) == 1, "said at once, and once"

        # The same again, when it is back.
        server.start()
        with (
            tracking.chain_run(config) as chain,
            tracking.stage_run(chain, "calibrate", {"fingerprint": "g"}) as stage,
        ):
            for step, value in ((1, 0.5), (2, 0.75)):
                stage.log({"holdout": value}, step=step)
            version = register(model, stage)
        assert (version.version, version.run_id) == (1, stage.id)
        history = tracking.client().get_metric_history(str(stage.id), "holdout")
        assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.75)]
    finally:
        server.stop(signal.SIGKILL)


def register(model: Path, run: tracking.Run) -> registry.Version:
    return registry.register(
        "outage", model, stage="gate", run_id=run.id, tags=TAGS, metrics=METRICS
    )


def test_a_command_says_in_one_line_that_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    assert cli.run(["models"]) == 2
    assert time.monotonic() - started < 10
    assert capsys.readouterr().err.splitlines() == [
        "dsnet: MLflow store http://127.0.0.1:9: expected an answer, found: connection refused; "
        "start it, or change MLFLOW_TRACKING_URI (unset: an embedded store in $DSNET_HOME)"
    ]


def test_waits_add_up_to_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSNET_STORE_PATIENCE", "1")
    monkeypatch.setattr(outage, "waits", outage._Waits())

    def away() -> None:
        raise ConnectionError("connection refused")

    started = time.monotonic()
    for _ in range(5):
        with pytest.raises(StoreError, match="no answer in 1 s"):
            outage.ask("http://127.0.0.1:9", away)
    assert time.monotonic() - started < 3
    assert outage.ask("http://127.0.0.1:9", lambda: 1) == 1
    assert outage.waits.left() == 1


def test_a_patience_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSNET_STORE_PATIENCE", "long")
    with pytest.raises(InputError, match="DSNET_STORE_PATIENCE: expected a number of seconds"):
        outage.patience()
