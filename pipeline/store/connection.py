"""Where the MLflow store is, and whether it answers.

An embedded one that needs no set-up, or the server in MLFLOW_TRACKING_URI. Credentials for a server
come from MLflow's own variables (MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD) and are read where they are used: never passed on, never logged.
"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from dsnet.errors import InputError, OutageError
from pipeline.store import embedded
from pipeline.store.address import uri as uri
from pipeline.store.notes import EXPERIMENT_TAGS
from pipeline.store.outage import reason, translated


def configure(folder: Path | None = None, *, make: bool = True) -> str:
    """Make the store ready and return its URI; with `folder`, make that $DSNET_HOME first.

    make: whether to create the embedded store where it is not there yet; who only reads has nothing
    to read then, which is an InputError. Raises InputError, in one line, where
    MLFLOW_TRACKING_URI does not answer or holds credentials, or the store has a schema of another
    MLflow or is damaged; DiskFullError where there is no room for it.
    """
    if folder is not None:
        os.environ["DSNET_HOME"] = str(Path(folder).expanduser().absolute())
    address = uri()
    file = embedded.database(address)
    if not make and file is not None and not file.exists():
        raise InputError(
            f"{file}: expected a store with registered models, found none; dsnet run makes it, and "
            "DSNET_HOME or MLFLOW_TRACKING_URI says where it is"
        )
    # A file answers or fails; making it takes as long as the machine needs.
    answer = answers(timeout=None if file else 30.0)
    if isinstance(answer.error, (InputError, OutageError)):
        raise answer.error
    if not answer.ok:
        raise InputError(
            f"MLflow store {address}: expected an answer, found: {answer.detail}; "
            "start it, or change MLFLOW_TRACKING_URI (unset: an embedded store in $DSNET_HOME)"
        )
    return address


def client() -> MlflowClient:
    """A client of the store; an SQLite store is created if it is not there yet.

    Raises InputError where its file is damaged.
    """
    address = uri()
    if file := embedded.database(address):
        embedded.ready(file, experiment_name())
    return MlflowClient(tracking_uri=address, registry_uri=address)


def experiment_name() -> str:
    """Name of the experiment that holds the runs."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "dsnet"


def experiment(mlflow: MlflowClient) -> str:
    """Id of the experiment that holds the runs, made at its first use."""
    name = experiment_name()
    file = embedded.database(mlflow.tracking_uri)
    # MLflow's default depends on the working folder.
    location = embedded.artifacts_beside(file) if file else None
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(
                mlflow.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
            )
        except MlflowException:  # somebody else was first
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"MLflow experiment {name}: expected an active one, found it deleted; "
            "restore it, or set MLFLOW_EXPERIMENT_NAME"
        )
    return str(found.experiment_id)


@dataclass(frozen=True)
class Answer:
    """Whether a store answers: its URI, yes or no, and in words."""

    uri: str
    ok: bool
    detail: str
    error: Exception | None = None
    """What it raised."""


def answers(timeout: float | None = 5.0) -> Answer:
    """Ask the store for the experiment of its runs, for at most `timeout` seconds. Never raises."""
    try:
        address = uri()
    except InputError as error:
        return Answer("MLFLOW_TRACKING_URI", False, str(error), error)
    outcome: list[Exception | None] = []

    def once() -> None:
        try:
            experiment(client())
            outcome.append(None)
        except Exception as error:
            outcome.append(translated(address, error) or error)

    started = time.monotonic()
    # A server that takes connections and says nothing holds a call for MLflow's own time limit.
    thread = threading.Thread(target=once, daemon=True, name="mlflow-answers")
    thread.start()
    thread.join(timeout)
    if not outcome:
        return Answer(address, False, f"no answer in {timeout:g} s")
    if outcome[0] is not None:
        return Answer(address, False, reason(outcome[0]), outcome[0])
    return Answer(address, True, f"answered in {time.monotonic() - started:.1f} s")
