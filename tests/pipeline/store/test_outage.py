"""A store that is away: how long it is waited for, and what is said then."""

import time

import pytest

from dsnet.errors import InputError
from jobs import cli
from pipeline.store import outage
from pipeline.store.outage import StoreError


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
