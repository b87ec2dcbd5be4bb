"""A registered version: what its tags say, read with care, for anybody may have written them.

Without MLflow and torch, so that versions are listed in the time that it takes to read them.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.tasks.measure import CLASSIFICATION, MEASURES, TOP1, Measure

AVERAGE_MADDS = "average_madds"  # which every version has, as it has its headline
MODEL_ID = "model_id"
"""Tag: the id of MLflow's logged model of it."""
EVALUATE_RUN = "evaluate_run"
"""Tag: the MLflow run whose files have what was counted of it class by class."""
GIVEN = "given"
"""Tag of a version that was given and not trained: SHA-256 of its model directory's SHA256SUMS."""
IN_PLACE_OF = "in_place_of"
"""Tag of a version that was given: the place in a chain that it takes (`fingerprint.place_of`)."""
OURS = frozenset({"stage", "content"})  # tags by which a version of this project is known


@dataclass(frozen=True)
class Version:
    """A registered version of a model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    stage: str
    tags: dict[str, str]
    """Every tag, `stage` and metrics included."""
    metrics: dict[str, float]
    run_id: str
    source: str
    """URI of its folder among the run's artifacts."""

    @property
    def uri(self) -> str:
        """`models:/NAME/3`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def task(self) -> str:
        """Name of what it is for."""
        return self.tags.get("task", CLASSIFICATION)

    @property
    def headline(self) -> Measure:
        """What its metrics are compared by: of `metrics`, the one of this name."""
        return headline_of(self.tags)

    @property
    def value(self) -> float:
        """Its headline's mean."""
        return self.metrics[self.headline.name]


def read_version(
    name: str,
    number: int,
    tags: Mapping[str, str],
    aliases: Iterable[str],
    *,
    run_id: str | None,
    source: str | None,
) -> Version:
    """A version as a registry holds it.

    Raises InputError, naming it, for metrics that are missing or are not finite numbers.
    """
    where = f"models:/{name}/{number}"
    metrics = {}
    for metric in tags.get("metrics", "").split():
        text = tags.get(metric, "")
        try:
            metrics[metric] = float(text)
        except ValueError:
            metrics[metric] = math.nan
        if not math.isfinite(metrics[metric]):
            raise InputError(
                f"{where}: expected a finite number in its tag {shown(metric)}, found {shown(text)}"
            )
    for metric in (headline_of(tags).name, AVERAGE_MADDS):
        if metric not in metrics:
            raise InputError(f"{where}: expected the metric {shown(metric)}, found none")
    return Version(
        name, number, tuple(aliases), tags["stage"], dict(tags), metrics, run_id or "", source or ""
    )


def headline_of(tags: Mapping[str, str]) -> Measure:
    """The measure that a version's tags name; of a task that is not known here, a bare number."""
    task, name = tags.get("task", CLASSIFICATION), tags.get("headline", TOP1.name)
    measures = MEASURES.get(task, ())
    # Looked up rather than imported: it takes PyTorch, and who made another task known has done so.
    registry = sys.modules.get("dsnet.tasks.registry")
    if registry is not None and task in registry.TASKS:
        measures = registry.TASKS[task].measures
    known = {measure.name: measure for measure in measures}
    return known.get(name) or Measure(name, name)
