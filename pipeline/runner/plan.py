"""Before the first stage: which results exist already, which will be made, and why."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dsnet
from dsnet import DSNet, InputError
from pipeline.cluster import events
from pipeline.config import Config, table_dir
from pipeline.data.dataset import Dataset
from pipeline.routing_table.shards import built_rows
from pipeline.runner.evaluate import EVALUATED
from pipeline.runner.force import NOTHING, Force
from pipeline.runner.job import GATE, Start, local
from pipeline.runner.supernet import gates_fit
from pipeline.runner.tables import PARTS
from pipeline.runner.train_gate import fits_table
from pipeline.stages import calibrate, evaluate, gate, table, table_gate
from pipeline.stages.network import new_network
from pipeline.store import registry, tracking
from pipeline.store.fingerprint import Spec, fingerprint, place_of, read_by
from pipeline.store.registry import Version
from pipeline.store.version import GIVEN

logger = logging.getLogger(__name__)

_SHOWN = 3
TABLE, EVALUATE = table.SPEC.name, evaluate.SPEC.name


@dataclass(frozen=True)
class Step:
    """One stage of a run, before it."""

    stage: str
    name: str
    """Registered name of what it makes; of a table or an evaluation, of what that is of."""
    key: str
    """Its fingerprint."""
    found: Version | None
    """What it would make, where it was made before."""
    why: str
    """Why it will run, if it will."""
    forced: bool = False
    """Whether it will run although it was made before."""
    built: Path | None = None
    """Of a table: its folder, if it is complete."""

    @property
    def runs(self) -> bool:
        """Whether there is anything to do."""
        return (self.found is None and self.built is None) or self.forced

    def __str__(self) -> str:
        if self.runs:
            return f"{self.stage}: {self.why}"
        if self.found is None:
            return f"{self.stage}: found in {self.built}"
        how = "in" if self.stage == EVALUATE else "as"
        given = " (given)" if GIVEN in self.found.tags else ""
        return f"{self.stage}: found {how} {self.found.uri}{given}"


def plan(
    config: Config,
    dataset: Dataset,
    supernet: Sequence[Spec],
    given: Version | None = None,
    start: Start | None = None,
    force: Force = NOTHING,
    network: DSNet | None = None,
) -> list[Step]:
    """Each stage of a chain, in order; a table where gates are made on one that is still to do.

    supernet: the stages of the supernet. given: one that the config names in place of them. start:
    what the first of them starts from. network: that gates are made for, where `given` is not to be
    fetched into the storage for it. Raises InputError for a stage to force that is none of them.
    """
    plan = _Plan(config, dataset, force)
    name, inputs = f"{config.name}-supernet", [start.identity] if start else []
    if given is not None:
        name, inputs, supernet = given.name, [given.tags["fingerprint"]], ()
    for spec in supernet:
        place = None if inputs else place_of(spec, config, dataset.digest)
        inputs = [plan.add(spec, name, spec.name, inputs, place)]
    spec = gate.SPEC
    if config.gate.method == "table" and fits_table(network or _network(config, given)):
        spec = table_gate.SPEC
        inputs.append(plan.add(table.SPEC, name, TABLE, inputs))
    key = plan.add(spec, config.name, GATE, inputs)
    plan.add(evaluate.SPEC, config.name, EVALUATE, [key])
    return _with_forced(plan.steps, force)


def announce_plan(steps: Sequence[Step]) -> None:
    """Log one line for each stage of `worked_on`, and tell it to whoever asks for the status."""
    stages = []
    for step in worked_on(steps):
        logger.info("%s", step)
        version = step.found.uri if step.found and not step.runs else None
        why = step.why if step.runs else ""
        stages.append({"stage": step.stage, "version": version, "why": why})
    events.tell("plan", stages=stages)


def worked_on(steps: Sequence[Step]) -> list[Step]:
    """All but a table whose gate exists: a table is built for its gate alone."""
    gates = next(step for step in steps if step.stage == GATE)
    return [step for step in steps if step.stage != TABLE or gates.runs]


def anything_to_do(steps: Sequence[Step]) -> bool:
    """Whether a stage will run; a table is built for its gate alone."""
    return any(step.runs for step in steps if step.stage != TABLE)


class _Plan:
    """The steps, as they are added."""

    def __init__(self, config: Config, dataset: Dataset, force: Force) -> None:
        self.config, self.dataset, self.force = config, dataset, force
        self.steps: list[Step] = []

    def add(
        self, spec: Spec, name: str, stage: str, inputs: Sequence[str], place: str | None = None
    ) -> str:
        """Add a stage; the fingerprint of what it makes, or of what was given in its `place`."""
        key = fingerprint(spec, self.config, inputs=inputs, dataset_digest=self.dataset.digest)
        found, built = None, None
        if stage == TABLE:
            built, why = self._of_table(name, key)
        elif stage == EVALUATE:
            found, why = self._of_evaluation(key)
        else:
            found = registry.find(name, key, place)
            why = "" if found else _why(self.config, self.dataset, spec, name, stage)
        self.steps.append(Step(stage, name, key, found, why, built=built))
        if place is None or found is None or stage in self.force.stages:
            return key
        return found.tags["fingerprint"]

    def _of_table(self, name: str, key: str) -> tuple[Path | None, str]:
        folder = table_dir(self.config, name, key)
        parts = [built_rows(folder / part) for part in PARTS]
        if all(part is not None and part[0] == part[1] for part in parts):
            return folder, ""
        if rows := sum(part[0] for part in parts if part):
            return None, f"{rows:,} rows found in {folder}; will build the others"
        return None, "not found; will build"

    def _of_evaluation(self, key: str) -> tuple[Version | None, str]:
        version = self.steps[-1].found
        if version is None:
            return None, "will run: the gate is new"
        if EVALUATED not in version.tags:
            return None, f"will run: {version.uri} is not evaluated yet"
        if version.tags[EVALUATED] != key:
            return None, f"will run: other settings or data than {version.uri} was evaluated with"
        return version, ""


def _with_forced(steps: Sequence[Step], force: Force) -> list[Step]:
    """The steps, of which those that are forced will run, and those that come after them."""
    known = [step.stage for step in steps]
    if strange := [stage for stage in force.stages if stage not in known]:
        raise InputError(
            f"--force: expected a stage of this run ({', '.join(known)}), found {strange[0]}, "
            "which it does without"
        )
    result: list[Step] = []
    first = ""
    for step in steps:
        if step.stage in force.stages:
            first, why = first or step.stage, "forced"
        else:
            why = f"forced, as {first} is"
        if first and step.found:
            step = replace(step, why=f"{why}, although {step.found.uri} exists", forced=True)
        elif first and step.stage == TABLE:
            step = replace(step, why=why, forced=True)
        result.append(step)
    return result


def _network(config: Config, given: Version | None) -> DSNet:
    """The network that gates are made for."""
    if given is not None:
        return gates_fit(config, given.uri, dsnet.load(local(config, given)))
    return new_network(config)


def _why(config: Config, dataset: Dataset, spec: Spec, name: str, stage: str) -> str:
    """What is new since the last version of that stage."""
    try:
        before = [version for version in registry.versions(name) if version.stage == stage]
    except InputError:  # not registered
        before = []
    will = "will run" if stage == calibrate.SPEC.name else "will train"
    if not before:
        return f"{name} not found; {will}"
    last = before[-1]
    if last.tags["dataset_digest"] != dataset.digest:
        return f"{will}: the data changed since {last.uri}"
    then = tracking.parameters_of(last.run_id)
    changed = [
        f"{field} changed from {then[field]} to {value}"
        for field, value in read_by(spec, config.as_dict()).items()
        if field in then and then[field] != str(value)
    ]
    if not changed:
        return f"{will}: its input changed since {last.uri}"
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{will}: {', '.join(changed[:_SHOWN])}{more} since {last.uri}"
