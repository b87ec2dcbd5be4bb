"""Metrics that a run could not send before it ended, kept in DSNET_HOME until it resumes."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow.entities import Metric

from dsnet.errors import OutageError
from dsnet.io.files import atomic_file
from pipeline.config import home

logger = logging.getLogger(__name__)


def keep(run: str, metrics: Sequence[Metric]) -> None:
    """Keep what the run of that id did not send; nothing where it sent all."""
    if not metrics:
        return
    rows = [(m.key, m.value, m.timestamp, m.step) for m in metrics]
    try:
        with atomic_file(_file(run)) as temporary:
            temporary.write_text(json.dumps(rows))
    except (OSError, OutageError) as error:
        logger.warning("they could not be kept for when the run goes on: %s", error)
    else:
        logger.warning("they are kept in %s, and follow when the run goes on", _file(run))


def taken(run: str) -> list[Metric]:
    """What `keep` kept of the run, in its order; from now on the caller has it."""
    file = _file(run)
    try:
        rows = json.loads(file.read_text())
        file.unlink()
        return [Metric(key, value, timestamp, step) for key, value, timestamp, step in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s is not readable, and is passed over: %s", file, error)
        return []


def _file(run: str) -> Path:
    return home() / "unsent" / f"{run}.json"
