"""Tracking needs no set-up, takes what is reported, and never stops a training."""

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsnet.errors import InputError
from dsnet.routing.target import parse_target
from pipeline.config import Config, config_from_dict
from pipeline.store import connection, tracking
from pipeline.store.flatten import flatten
from pipeline.store.tracking import MetricLog


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Line:
    """A TCP line to a server that can be cut and mended: what an outage looks like from here."""

    def __init__(self, uri: str) -> None:
        self._target = ("127.0.0.1", int(uri.rpartition(":")[2]))
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._open: list[socket.socket] = []
        self._server: socket.socket | None = None

    def mend(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def cut(self) -> None:
        if self._server is not None:
            self._open.append(self._server)
            self._server = None
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = server.accept()
                there = socket.create_connection(self._target)
                self._open += [here, there]
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home with a blank")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, embedded_home: Path) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DSNET_HOME", str(embedded_home))
    tracking.configure()
    return embedded_home


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either store, configured; its URI."""
    if request.param == "embedded":
        request.getfixturevalue("embedded")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    return tracking.configure()


@pytest.fixture
def line(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to the server, up, for tests that cut it."""
    line = Line(mlflow_server)
    line.mend()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield line
    line.cut()


def history(run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    return [(m.step, m.value) for m in tracking.client().get_metric_history(run_id, name)]


# ----------------------------------------------------------------------------------- the store


@pytest.mark.slow
def test_first_starts_at_once_and_after_an_interruption_all_get_the_store(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".mlflow.db.new").write_text("what a killed first start has left")
    environment = {**os.environ, "DSNET_HOME": str(home), "MLFLOW_TRACKING_URI": ""}
    program = "from pipeline.store import tracking; print(tracking.configure())"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for start in starts:
        out, err = start.communicate()
        assert (out, err) == (f"sqlite:///{home}/mlflow.db\n", "")  # and they are quiet
    assert not (home / ".mlflow.db.new").exists()


def test_the_embedded_store_keeps_everything_in_the_home(embedded: Path) -> None:
    with tracking.stage_run(None, "supernet") as run:
        run.text("content", "notes/file.txt")
    assert tracking.uri() == f"sqlite:///{embedded}/mlflow.db"
    stored = embedded / "mlartifacts" / str(run.id) / "artifacts" / "notes" / "file.txt"
    assert stored.read_text() == "content"


def test_a_store_that_does_not_answer_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=f"MLflow store {uri}: expected an answer"):
        tracking.configure()
    answer = tracking.answers(timeout=5)
    assert (answer.uri, answer.ok) == (uri, False)


def test_an_answer_says_which_store_answered(store: str) -> None:
    answer = tracking.answers()
    assert (answer.uri, answer.ok) == (store, True)


def test_credentials_in_the_uri_are_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:secret@example.org")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_USERNAME") as caught:
        tracking.configure()
    assert "secret" not in str(caught.value)
    assert "secret" not in str(tracking.answers())


# ------------------------------------------------------------------------------------ the runs


def test_stage_runs_are_children_of_the_chains_run(store: str) -> None:
    config = Config(name="nested")
    with tracking.chain_run(config) as chain, tracking.stage_run(chain, "gate") as stage:
        pass
    client = tracking.client()
    parent, child = client.get_run(chain.id), client.get_run(stage.id)
    assert child.data.tags["mlflow.parentRunId"] == chain.id
    assert (parent.info.run_name, child.info.run_name) == ("run nested", "gate")
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.params["gate.epochs"] == str(config.gate.epochs)
    assert "config.yaml" in [file.path for file in client.list_artifacts(chain.id)]


def test_a_chains_run_is_named_by_its_target_and_by_what_changed_since_the_one_before(
    store: str,
) -> None:
    changes: list[dict[str, Any]] = [
        {"gate": {"target": 0.5}},
        {"gate": {"target": 0.3}},
        {"gate": {"target": 0.3}, "seed": 7, "supernet": {"bootstrap": "labels"}},
        {},
    ]
    names = []
    for changed in changes:
        with tracking.chain_run(config_from_dict({"name": "told", **changed})) as run:
            names.append(run.name)
    assert names == [
        "run told at 0.5",
        "run told at 0.3",
        "run told at 0.3: seed 7, supernet.bootstrap labels",
        "run told: seed 0, supernet.bootstrap ensemble",
    ]
    assert tracking.client().get_run(run.id).info.run_name == names[-1]


def test_what_a_run_reads_is_among_its_inputs(store: str) -> None:
    with tracking.chain_run(Config(name="reading")) as run:
        run.reads("training", "digits train", "d" * 64, "digits", {"pictures": 1437})
    (read,) = tracking.client().get_run(run.id).inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("digits train", "d" * 36)
    assert {tag.key: tag.value for tag in read.tags} == {"mlflow.data.context": "training"}
    assert json.loads(read.dataset.profile) == {"pictures": 1437}
    assert json.loads(read.dataset.source) == {"uri": "digits"}


def test_a_sweep_is_told_from_a_chain_of_the_same_model_by_name_and_note(store: str) -> None:
    targets = [parse_target(0.25), parse_target("200e6")]
    config = Config(name="both")
    with tracking.chain_run(config) as chain, tracking.stage_run(chain, "table") as of:
        pass
    with tracking.chain_run(config, targets) as sweep, tracking.stage_run(sweep, "table") as other:
        pass
    runs = [tracking.client().get_run(run.id) for run in (chain, sweep, of, other)]
    assert [run.info.run_name for run in runs] == [
        "run both",
        "sweep both: 0.25, 200M",
        "table",
        "table",
    ]
    notes = [run.data.tags["mlflow.note.content"] for run in runs[:2]]
    assert "evaluation on the test images" in notes[0]
    assert "0.25, 200M" in notes[1]
    assert all("`models:/both`" in note for note in notes)
    assert [run.data.tags["chain"] for run in runs[2:]] == [
        "both",
        "both",
    ]  # each other's to resume


def test_a_run_whose_stage_raises_has_failed(embedded: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracking.stage_run(None, "gate") as run:
        1 / 0  # noqa: B018
    assert tracking.client().get_run(run.id).info.status == "FAILED"


# --------------------------------------------------------------------------------- the metrics


def test_nested_metrics_arrive_flat_with_their_step(store: str) -> None:
    with tracking.stage_run(None, "supernet") as run:
        run.log({"loss": {"largest": 1.5, "random": [2, 3]}, "note": "text"}, step=4)
        run.log({"loss": {"largest": 1.25}}, step=5)
    data = tracking.client().get_run(run.id).data.metrics
    assert data == {"loss/largest": 1.25, "loss/random/0": 2.0, "loss/random/1": 3.0}
    assert history(run.id, "loss/largest") == [(4, 1.5), (5, 1.25)]


def test_more_metrics_than_one_call_takes_all_arrive(embedded: Path) -> None:
    with tracking.stage_run(None, "supernet") as run:
        run.log({"width": list(range(2500))}, step=0)
    data = tracking.client().get_run(run.id).data.metrics
    assert data == {f"width/{i}": float(i) for i in range(2500)}


def test_what_is_not_finite_is_left_out_and_said_once(
    embedded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.stage_run(None, "supernet") as run:
        for step in range(3):
            run.log({"loss": math.nan, "norm": math.inf, "top1": 0.5}, step=step)
    assert tracking.client().get_run(run.id).data.metrics == {"top1": 0.5}
    said = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert said == ["not finite at step 0 and so not logged to MLflow: loss, norm (said once)"]


def test_metrics_of_an_outage_arrive_after_it(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    with tracking.stage_run(None, "supernet") as run:
        run.log({"loss": 0.0}, step=0)
        line.cut()
        for step in range(1, 4):
            run.log({"loss": float(step)}, step=step)
        assert run.metrics is not None and run.metrics.flush(timeout=0) == 3
        line.mend()
        assert run.metrics.flush(timeout=30) == 0
    assert history(run.id, "loss") == [(step, float(step)) for step in range(4)]
    warnings = [r.getMessage() for r in caplog.records if "kept for later" in r.getMessage()]
    assert len(warnings) == 1


def test_what_did_not_arrive_follows_when_the_stage_goes_on_and_none_twice(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also what no checkpoint has: figures within an epoch, what is in use."""
    monkeypatch.setenv("DSNET_STORE_PATIENCE", "2")
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    monkeypatch.setattr(tracking, "_BRIEFLY", 0.1)
    with tracking.chain_run(Config(name="outage")) as chain:
        tags = {"fingerprint": "f"}
        with (  # noqa: PT012
            pytest.raises(ZeroDivisionError),
            tracking.stage_run(chain, "supernet", tags) as run,
        ):
            run.log({"loss": 0.0, "running": {"loss": 0.5}}, step=0)
            line.cut()
            for step in range(1, 4):
                run.log({"loss": float(step), "running": {"loss": step + 0.5}}, step=step)
            raise ZeroDivisionError
        line.mend()
        tracking.client().set_terminated(str(run.id), "KILLED")  # as when its driver is gone
        with tracking.stage_run(chain, "supernet", tags) as again:
            # A stage tells again what its checkpoint has, and not what it had within an epoch.
            for step in range(5):
                again.log({"loss": float(step)}, step=step)
            again.log({"running": {"loss": 4.5}}, step=4)
    assert again.id == run.id
    assert history(run.id, "loss") == [(step, float(step)) for step in range(5)]
    assert history(run.id, "running/loss") == [(step, step + 0.5) for step in range(5)]


def test_a_stage_runs_through_an_outage_that_lasts(
    line: Line, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_STORE_PATIENCE", "2")
    line.cut()
    with tracking.stage_run(None, "supernet") as run:
        run.log({"loss": 1.0}, step=0)
        run.tag({"a": "b"})
        run.params({"a": "b"})
        run.text("text", "file.txt")
        done = True
    assert done and run.id is None
    assert any("gave no run for supernet" in r.getMessage() for r in caplog.records)


def test_metrics_that_the_store_refuses_are_counted_and_forgotten(embedded: Path) -> None:
    log = MetricLog(tracking.uri(), "0" * 32)
    log.log({"loss": 1.0, "top1": 0.5}, step=0)
    assert log.flush() == 2


json_like = st.recursive(
    st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from([".", "..", "/", ""]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(metrics=st.dictionaries(st.text(min_size=0, max_size=300), json_like, max_size=5))
def test_whatever_is_reported_is_finite_and_accepted_by_mlflow(
    embedded: Path, metrics: dict[str, Any]
) -> None:
    values, _ = flatten(metrics)
    assert all(math.isfinite(value) for value in values.values())
    client = tracking.client()
    run = client.create_run(connection.experiment(client)).info.run_id
    log = MetricLog(tracking.uri(), run)
    log.log(metrics, step=0)
    assert log.flush() == 0
    assert client.get_run(run).data.metrics == values


names = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.dictionaries(names, st.dictionaries(names, st.floats() | st.integers(-100, 100))))
def test_every_number_is_kept_or_named_as_dropped(metrics: dict[str, dict[str, float]]) -> None:
    pairs = {f"{a}/{b}": value for a, inner in metrics.items() for b, value in inner.items()}
    values, dropped = flatten(metrics)
    assert values == {name: value for name, value in pairs.items() if math.isfinite(value)}
    assert set(dropped) == pairs.keys() - values.keys()
