"""MLflow's logged model of a version: what joins its run, files, metrics and versions in the UI.

Its metrics are numbers, which searches compare: `metrics.top1 > 0.9`.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric

from dsnet import DSNet
from dsnet.io.files import room
from dsnet.io.version_files import CONTENT
from pipeline.store.artifacts import files
from pipeline.store.connection import uri
from pipeline.store.mlflow_model import add
from pipeline.store.outage import ask

_TAGS = ("stage", "fingerprint", "dataset_digest", CONTENT)  # of a version, that it has too
_NOT_IN_NAMES = re.compile(r"[/:.%\"']")
_DIGEST_LENGTH = 36  # of a data set's digest, MLflow's own limit
_VERSIONS = "mlflow.modelVersions"  # the tag by which MLflow's pages link to versions


@dataclass(frozen=True)
class Logged:
    """What was logged."""

    model_id: str
    source: str
    """URI of its folder of artifacts."""
    added: str
    """Digest of what makes it an MLflow model."""


def log(
    client: MlflowClient,
    name: str,
    run_id: str,
    directory: Path,
    model: DSNet,
    card: str,
    picture: str | None,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Logged:
    """A model directory as a logged model of its run, whole and measured.

    model: what is in the directory. card: its README.md. picture: what that shows. tags, metrics:
    those of the version that is to be made of it. Waits for the store as `ask` does.
    """
    begun = ask(uri(), lambda: opened(client, name, run_id, tags))
    with tempfile.TemporaryDirectory(prefix="dsnet-") as folder, room(folder):
        whole = Path(shutil.copytree(directory, Path(folder, "model")))
        made = begun.creation_timestamp
        ids = {"run_id": run_id, "model_id": begun.model_id}
        added = add(whole, model, card, picture, **ids, made=made)
        ask(uri(), lambda: _upload(client, begun, whole))
    measure(client, begun.model_id, run_id, metrics, tags)
    ask(uri(), lambda: _finish(client, begun, run_id))
    return Logged(begun.model_id, begun.artifact_location, added)


def opened(client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str]) -> LoggedModel:
    """A logged model of the run to upload to.

    The one that an attempt before began, with the same content (a tag) and did not finish, if there
    is one: it writes the same files to the same place.
    """
    experiment = client.get_run(run_id).info.experiment_id
    name = _NOT_IN_NAMES.sub("-", name)
    same = f"tags.{CONTENT} = '{tags[CONTENT]}'"
    for model in client.search_logged_models([experiment], filter_string=same):
        mine = (model.name, model.source_run_id) == (name, run_id)
        if mine and model.status == LoggedModelStatus.PENDING:
            return model
    few = {key: tags[key] for key in _TAGS}
    return client.create_logged_model(
        experiment, name, source_run_id=run_id, tags=few, model_type="ds-net"
    )


def _upload(client: MlflowClient, model: LoggedModel, directory: Path) -> None:
    """Every file of `directory`, and nothing else; RuntimeError if something else came of it."""
    client.log_model_artifacts(model.model_id, str(directory))
    here = {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
    }
    there = files(model.artifact_location)
    if here != there:
        wrong = sorted(path for path in {*here, *there} if here.get(path) != there.get(path))
        raise RuntimeError(
            f"MLflow stored other files than were sent in {model.artifact_location}: "
            f"{', '.join(wrong)}"
        )


def _finish(client: MlflowClient, model: LoggedModel, run_id: str) -> None:
    """It is whole: ready, and what its run has made."""
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def measure(
    client: MlflowClient,
    model_id: str,
    run_id: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Log metrics of the model on the images that the version's tags name.

    MLflow keeps them in its run too, next to its curves.
    """
    now = int(1000 * time.time())
    images = {
        "dataset_name": tags.get("evaluated_on", "holdout"),
        "dataset_digest": tags["dataset_digest"][:_DIGEST_LENGTH],
    }
    entities = [
        Metric(name, value, now, step=0, model_id=model_id, **images)
        for name, value in metrics.items()
    ]
    ask(uri(), lambda: client.log_batch(run_id, entities))


def link(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Let MLflow's page of the model lead to its version."""
    tag = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(model_id, {_VERSIONS: tag})
