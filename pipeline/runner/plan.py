"""Before the first stage: which results are there already, which are to be made, and why."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dsnet import InputError, create_model
from dsnet.routing import MAX_PATHS
from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.runner.job import GATE
from pipeline.stages import gate, table, table_gate
from pipeline.store import registry, tracking
from pipeline.store.fingerprint import Spec, fingerprint, selected
from pipeline.store.registry import Version

logger = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True)
class Step:
    """One stage of a run, before it."""

    stage: str
    found: Version | None
    """What it would make, where it was made before."""
    why: str
    """Why it is to be run, where it is."""

    def __str__(self) -> str:
        return f"{self.stage}: " + (f"{self.found.uri} is there" if self.found else self.why)


def plan(
    config: Config, dataset: Dataset, supernet: Sequence[Spec], given: Version | None
) -> list[Step]:
    """Each stage that makes a version. supernet: the stages of the supernet; given: one that the
    config names in place of them.
    """
    steps = []
    inputs: list[str] = []
    if given is not None:
        inputs, supernet = [given.tags["fingerprint"]], ()
    for spec in supernet:
        key = fingerprint(spec, config, inputs=inputs, dataset_digest=dataset.digest)
        steps.append(_step(config, dataset, spec, f"{config.name}-supernet", spec.name, key))
        inputs = [key]
    spec = gate.SPEC
    if _by_table(config, given):
        rows = fingerprint(table.SPEC, config, inputs=inputs, dataset_digest=dataset.digest)
        spec, inputs = table_gate.SPEC, [*inputs, rows]
    key = fingerprint(spec, config, inputs=inputs, dataset_digest=dataset.digest)
    return [*steps, _step(config, dataset, spec, config.name, GATE, key)]


def announce_plan(steps: Sequence[Step]) -> None:
    """One line for each stage."""
    for step in steps:
        logger.info("%s", step)


def _by_table(config: Config, given: Version | None) -> bool:
    if config.gate.method != "table":
        return False
    if given is not None:
        return True
    model = create_model(config.model.arch, config.model.num_classes, routes=config.model.routes)
    return len(model.space.routes) <= MAX_PATHS


def _step(config: Config, dataset: Dataset, spec: Spec, name: str, stage: str, key: str) -> Step:
    found = registry.find(name, key)
    return Step(stage, found, "" if found else _why(config, dataset, spec, name, stage))


def _why(config: Config, dataset: Dataset, spec: Spec, name: str, stage: str) -> str:
    """What is new since the last version of that stage."""
    try:
        before = [version for version in registry.versions(name) if version.stage == stage]
    except InputError:  # not registered
        before = []
    if not before:
        return f"to be run, {name} has none yet"
    last = before[-1]
    if last.tags["dataset_digest"] != dataset.digest:
        return f"to be run, the data are others than those of {last.uri}"
    then = tracking.parameters_of(last.run_id)
    changed = [
        f"{field} was {then[field]}, is {value}"
        for field, value in selected(config.as_dict(), spec).items()
        if field in then and then[field] != str(value)
    ]
    if not changed:
        return f"to be run, what it goes on from is new since {last.uri}"
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"to be run, since {last.uri}: {', '.join(changed[:_SHOWN])}{more}"
