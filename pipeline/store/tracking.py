"""The MLflow store: an embedded one that needs no set-up, or the server in MLFLOW_TRACKING_URI.

The embedded store is one SQLite file and a folder of artifacts, both in $DSNET_HOME. Credentials
for a server come from MLflow's own variables (MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME
and MLFLOW_TRACKING_PASSWORD) and are read where they are used: never passed on, never logged.

Two rules: a training never stops because of its tracking (what cannot be logged is warned about),
and a chain that could not register its result does not start (`configure` asks the store first).
"""

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from dsnet.errors import InputError
from pipeline.config import Config, home
from pipeline.store.flatten import flatten

logger = logging.getLogger(__name__)
_SQLITE = "sqlite:///"
_METRICS_PER_CALL, _PARAMS_PER_CALL = 1000, 100  # MLflow's own limits


# ----------------------------------------------------------------------------------- the store


def configure(folder: Path | None = None) -> str:
    """Make the store ready and return its URI; with `folder`, make that $DSNET_HOME first.

    Creates the embedded store at its first use. Raises InputError, in one line, where
    MLFLOW_TRACKING_URI does not answer, holds credentials or has a schema of another MLflow.
    """
    if folder is not None:
        os.environ["DSNET_HOME"] = str(Path(folder).expanduser().absolute())
    address = uri()
    # A file answers or fails; making it takes as long as the machine needs.
    answer = answers(timeout=None if address.startswith(_SQLITE) else 30.0)
    if not answer.ok:
        raise InputError(
            f"MLflow store {address}: expected an answer, found: {answer.detail}; "
            "start it, or change MLFLOW_TRACKING_URI (unset: an embedded store in $DSNET_HOME)"
        )
    return address


def uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store's; InputError where it holds credentials."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not address:
        return f"{_SQLITE}{home() / 'mlflow.db'}"
    if "@" in urlsplit(address).netloc:
        # It would be sent to workers and shown in logs.
        raise InputError(
            "MLFLOW_TRACKING_URI: expected no user or password in it, found some; "
            "put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return address


def client() -> MlflowClient:
    """A client of the store; an SQLite store is created if it is not there yet."""
    address = uri()
    if address.startswith(_SQLITE):
        _create(Path(address.removeprefix(_SQLITE)).absolute())
    return MlflowClient(tracking_uri=address, registry_uri=address)


def _create(database: Path) -> None:
    """Make an SQLite store whole or not at all, once, whoever comes first.

    MLflow's migrations collide when two processes run them on one file, and leave a file that
    cannot be used when they are interrupted: so they run on a file of another name, under a lock.
    """
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        temporary = database.with_name(f".{database.name}.new")
        temporary.unlink(missing_ok=True)
        address = f"{_SQLITE}{temporary}"
        MlflowClient(tracking_uri=address, registry_uri=address).create_experiment(
            _experiment_name(), artifact_location=_artifacts_beside(database)
        )
        os.replace(temporary, database)


def _artifacts_beside(database: Path) -> str:
    return str(database.absolute().with_name("mlartifacts"))


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "dsnet"


def _experiment(mlflow: MlflowClient) -> str:
    """Id of the experiment that holds the runs."""
    name = _experiment_name()
    location = None
    if mlflow.tracking_uri.startswith(_SQLITE):  # MLflow's default depends on the working folder
        location = _artifacts_beside(Path(mlflow.tracking_uri.removeprefix(_SQLITE)))
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:  # somebody else was first
            experiment = mlflow.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"MLflow experiment {name}: expected an active one, found it deleted; "
            "restore it, or set MLFLOW_EXPERIMENT_NAME"
        )
    return str(experiment.experiment_id)


@dataclass(frozen=True)
class Answer:
    """Whether a store answers: its URI, yes or no, and in words."""

    uri: str
    ok: bool
    detail: str


def answers(timeout: float | None = 5.0) -> Answer:
    """Ask the store for the experiment of its runs, for at most `timeout` seconds. Never raises."""
    try:
        address = uri()
    except InputError as error:
        return Answer("MLFLOW_TRACKING_URI", False, str(error))
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            _experiment(client())
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    started = time.monotonic()
    # MLflow retries for longer than anybody waits, and cannot be told otherwise for one call.
    thread = threading.Thread(target=ask, daemon=True, name="mlflow-answers")
    thread.start()
    thread.join(timeout)
    if not outcome:
        return Answer(address, False, f"no answer in {timeout:g} s")
    if outcome[0] is not None:
        return Answer(address, False, _one_line(outcome[0]))
    return Answer(address, True, f"answered in {time.monotonic() - started:.1f} s")


# ------------------------------------------------------------------------------------ the runs


@dataclass(frozen=True)
class Run:
    """One MLflow run. Its methods warn where the store fails, and never raise for it."""

    uri: str
    id: str | None
    """None where the store could not be asked for one."""
    metrics: "MetricLog | None" = field(default=None, repr=False)

    def log(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log nested metrics; what is not a finite number is left out."""
        if self.metrics is not None:
            self.metrics.log(metrics, step)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        entities = [RunTag(key, value) for key, value in tags.items()]
        self._try("tags", lambda mlflow, run: mlflow.log_batch(run, tags=entities))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's content, into `folder` of the run's artifacts."""
        if path.is_dir():
            self._try("artifacts", lambda m, run: m.log_artifacts(run, str(path), folder))
        else:
            self._try("artifacts", lambda m, run: m.log_artifact(run, str(path), folder))

    def text(self, text: str, name: str) -> None:
        """Upload `text` as a file called `name`."""
        self._try("artifacts", lambda mlflow, run: mlflow.log_text(run, text, name))

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters of the run; each can be set once."""
        items = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(items), _PARAMS_PER_CALL):
            self._try("parameters", partial(_log_params, items[start : start + _PARAMS_PER_CALL]))

    def _try(self, what: str, call: Callable[[MlflowClient, str], object]) -> None:
        if self.id is None:
            return
        try:
            call(client(), self.id)
        except Exception as error:
            logger.warning("MLflow did not take %s of run %s: %s", what, self.id, _one_line(error))


def _log_params(params: list[Param], mlflow: MlflowClient, run: str) -> None:
    mlflow.log_batch(run, params=params)


@contextmanager
def chain_run(config: Config, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """The parent run of a chain, with the configuration as parameters and as config.yaml.

    Raises InputError where the store does not answer: nothing could be registered in the end.
    """
    configure()
    with _run(config.name, dict(tags or {})) as run:
        run.params(dict(_dotted(config.as_dict())))
        run.text(config.yaml(), "config.yaml")
        yield run


def parameters_of(stage_run: str | None) -> dict[str, str]:
    """The configuration that a stage's run was part of, by dotted name; empty where it is gone."""
    if stage_run is None:
        return {}
    try:
        tags = client().get_run(stage_run).data.tags
        parent = client().get_run(tags.get(MLFLOW_PARENT_RUN_ID, stage_run))
    except MlflowException as error:
        logger.warning("run %s: %s", stage_run, _one_line(error))
        return {}
    return dict(parent.data.params)


@contextmanager
def stage_run(
    parent: Run | None, name: str, tags: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """The run of one stage, nested in its chain's where there is one."""
    tags = dict(tags or {}, stage=name)
    if parent is not None and parent.id is not None:
        tags[MLFLOW_PARENT_RUN_ID] = parent.id
    with _run(name, tags) as run:
        yield run


@contextmanager
def _run(name: str, tags: dict[str, str]) -> Iterator[Run]:
    run = _start(name, tags)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if run.metrics is not None:
            run.metrics.flush()
        run._try("the end", lambda mlflow, run_id: mlflow.set_terminated(run_id, status))


def _start(name: str, tags: dict[str, str]) -> Run:
    address = uri()
    try:
        mlflow = client()
        run_id = mlflow.create_run(_experiment(mlflow), tags=tags, run_name=name).info.run_id
    except Exception as error:
        logger.warning("MLflow gave no run for %s, nothing of it is logged: %s", name, error)
        return Run(address, None)
    return Run(address, run_id, MetricLog(address, run_id))


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# --------------------------------------------------------------------------------- the metrics


class MetricLog:
    """Sends metrics to one run from a thread of its own, so that no outage holds up a training.

    While the store answers, `log` returns when the metrics have arrived. While it does not, they
    wait in memory, the newest 100,000, and follow when it does. Picklable: what is pickled is the
    URI and the run's id.
    """

    _patience = 2.0  # seconds that `log` waits for a slow store
    _kept = 100_000
    _longest_pause = 30.0  # seconds between attempts

    def __init__(self, uri: str, run_id: str) -> None:
        self.__setstate__((uri, run_id))

    def __getstate__(self) -> tuple[str, str]:
        return self.uri, self.run_id

    def __setstate__(self, state: tuple[str, str]) -> None:
        self.uri, self.run_id = state
        self._pending: deque[Metric] = deque()
        self._lost = 0
        self._failing = False
        self._warned_of: set[str] = set()
        self._change = threading.Condition()  # guards all of the above
        self._thread: threading.Thread | None = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Send nested metrics of `step`; NaN and infinities are left out, with one warning each."""
        values, dropped = flatten(metrics)
        if new := set(dropped) - self._warned_of:
            self._warned_of |= new
            logger.warning(
                "not finite at step %d and so not logged to MLflow: %s (said once)",
                step,
                ", ".join(sorted(new)),
            )
        now = int(time.time() * 1000)
        with self._change:
            self._pending.extend(Metric(name, value, now, step) for name, value in values.items())
            while len(self._pending) > self._kept:
                self._pending.popleft()
                self._lost += 1
            if self._pending and self._thread is None:
                self._thread = threading.Thread(
                    target=self._send_all, daemon=True, name="mlflow-metrics"
                )
                self._thread.start()
            self._change.wait_for(lambda: self._failing or not self._pending, self._patience)

    def flush(self, timeout: float = 10.0) -> int:
        """Wait up to `timeout` seconds for what is pending; return how many metrics are missing."""
        with self._change:
            self._change.wait_for(lambda: not self._pending, timeout)
            missing = self._lost + len(self._pending)
        if missing:
            logger.warning("%d metrics of run %s did not reach MLflow", missing, self.run_id)
        return missing

    def _send_all(self) -> None:
        """The thread: ends when nothing is pending."""
        pause = 0.5
        while True:
            with self._change:
                batch = list(islice(self._pending, _METRICS_PER_CALL))
                if not batch:
                    self._thread = None
                    return
            error = self._send(batch)
            with self._change:
                self._settle(batch, error)
                self._change.notify_all()
            if self._failing:
                time.sleep(pause)
                pause = min(2 * pause, self._longest_pause)

    def _send(self, batch: list[Metric]) -> Exception | None:
        try:
            MlflowClient(self.uri).log_batch(self.run_id, metrics=batch)
        except Exception as error:
            return error
        return None

    def _settle(self, batch: list[Metric], error: Exception | None) -> None:
        """Take from the queue what is done with, and say what changed."""
        if error is not None and not is_permanent(error):
            if not self._failing:
                logger.warning(
                    "MLflow does not take metrics of run %s, they are kept for later: %s",
                    self.run_id,
                    _one_line(error),
                )
            self._failing = True
            return
        # By identity: while the batch was on its way, `log` may have dropped some of it.
        done = set(map(id, batch))
        while self._pending and id(self._pending[0]) in done:
            self._pending.popleft()
        if error is not None:
            self._lost += len(batch)
            logger.warning("MLflow refused %d metrics: %s", len(batch), _one_line(error))
        elif self._failing:
            logger.warning("MLflow takes metrics of run %s again", self.run_id)
        self._failing = False


_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)


_PERMANENT_HERE = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    shutil.Error,
)


def is_permanent(error: BaseException) -> bool:
    """Whether asking the store again would fail in the same way."""
    if isinstance(error, MlflowException):
        return error.error_code in _PERMANENT
    return isinstance(error, _PERMANENT_HERE)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
