"""MLflow's logged model of a version: what joins its run, files, metrics and versions in the UI.

Its metrics are numbers, which searches compare: `metrics.top1 > 0.9`.
"""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric

from pipeline.store.artifacts import files

CONTENT = "content"
_NOT_IN_NAMES = re.compile(r"[/:.%\"']")
_DIGEST_LENGTH = 36  # of a data set's digest, MLflow's own limit
_VERSIONS = "mlflow.modelVersions"  # the tag by which MLflow's pages link to versions


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
    return client.create_logged_model(
        experiment, name, source_run_id=run_id, tags=dict(tags), model_type="ds-net"
    )


def upload(client: MlflowClient, model: LoggedModel, directory: Path) -> None:
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


def finish(client: MlflowClient, model: LoggedModel, run_id: str) -> None:
    """It is whole: ready, and what its run has made."""
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def measure(
    client: MlflowClient,
    model_id: str,
    run_id: str,
    metrics: Mapping[str, float],
    measured_on: tuple[str, str],
) -> None:
    """Log metrics of the model, and of its run. measured_on: which images, and their digest."""
    now = int(1000 * time.time())
    where, digest = measured_on
    client.log_batch(
        run_id,
        [
            Metric(
                name,
                value,
                now,
                step=0,
                model_id=model_id,
                dataset_name=where,
                dataset_digest=digest[:_DIGEST_LENGTH],
            )
            for name, value in metrics.items()
        ],
    )


def link(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Let MLflow's page of the model lead to its version."""
    tag = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(model_id, {_VERSIONS: tag})
