"""The chain: ingest -> supernet -> calibrate -> gate -> evaluate -> promotion."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dsnet
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.checks import announce, check_classes, check_model
from pipeline.runner.doubts import points, warn
from pipeline.runner.evaluate import counts, evaluate
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.force import NOTHING, Force, Forced
from pipeline.runner.gate import gate
from pipeline.runner.job import Job, local
from pipeline.runner.log_data import log_data
from pipeline.runner.plan import announce_plan, anything_to_do, begin_forced, plan, tell_plan
from pipeline.runner.promotion import settle
from pipeline.runner.seen import warn_of_seen
from pipeline.runner.starting_point import Start, starting_point
from pipeline.runner.supernet import given_supernet
from pipeline.stages import calibrate, supernet
from pipeline.stages.stage import Stage
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.evaluation import EvaluationRow
from pipeline.training.sanity import Labels, doubts, not_learned

if TYPE_CHECKING:  # it brings Ray Train
    from pipeline.training.worker_group import WorkerGroup

# Each stage takes the version that the one before it registered.
SUPERNET: tuple[Stage[Any], ...] = (
    supernet.STAGE,
    calibrate.STAGE,
)
GATED: tuple[Callable[[Job, Version], Version], ...] = (
    gate,
    evaluate,
)


@dataclass(frozen=True)
class ChainResult:
    """What a chain has made."""

    version: Version
    """The gated network, registered and evaluated."""
    rows: list[EvaluationRow]
    """Every sub-network and the dynamic network, on the test images."""
    images: int
    """Number of test images."""
    versions: list[Version]
    """Everything registered under the chain's names."""
    unlearned: str | None = None
    """Why the network did not learn, for which it has no alias; None: it did."""


def run(
    config: Config, *, force: Force = NOTHING, workers: "WorkerGroup | None" = None
) -> ChainResult:
    """Run every stage that is not done yet; each takes the version the one before registered.

    force: stages to run although they are done, and with each what follows from it. workers: those
    of several chains, which stay when this one has ended; None: of this one alone.
    Raises InputError, before any training, for what cannot work: an unknown architecture, a target
    out of the routing space's range, data that is not there, a cluster that is too small.
    """
    import_plugins(config)
    tracking.configure()
    check_model(config)
    given = given_supernet(config)
    dataset = ingest(config)
    check_classes(config, dataset, given)
    announce(config, dataset, given)
    start = None if given else starting_point(config, dataset)
    warn_of_seen(given or (start.version if start else None), dataset)
    specs = [stage.spec for stage in SUPERNET]
    steps, forced = begin_forced(config, plan(config, dataset, specs, given, start, force))
    announce_plan(steps)
    tell_plan(steps)
    found = steps[-1].found
    with interruptible():
        if found is None or anything_to_do(steps):
            version, rows, unlearned = _made(config, dataset, given, start, forced, workers)
        else:
            version, rows, unlearned = _settled(config, dataset, found)
    if forced is not None:
        forced.done()
    names = [version.name] if given else [f"{config.name}-supernet", version.name]
    versions = [v for name in names for v in registry.versions(name)]
    return ChainResult(version, rows, dataset.test.samples, versions, unlearned)


def _made(
    config: Config,
    dataset: Dataset,
    given: Version | None,
    start: Start | None,
    forced: Forced | None,
    workers: "WorkerGroup | None",
) -> tuple[Version, list[EvaluationRow], str | None]:
    """The gated network, made of what is there and what is not; see `_settled`."""
    # Here, for a finished chain does without Ray Train.
    from pipeline.training.worker_group import WorkerGroup

    with nullcontext(workers) if workers else WorkerGroup() as at_work:
        at_work.start(config)  # they import PyTorch while the driver asks its store
        with tracking.chain_run(config) as run:
            log_data(config, dataset, run)
            job = Job(config, dataset, run, at_work, start, forced)
            version = given or make_supernet(job)
            for step in GATED:
                version = step(job, version)
            settled, rows, unlearned = _settled(config, dataset, version)
            # Chains are compared by what came out; the other widths are their evaluation's to tell.
            run.log(settled.metrics | _ends(settled, rows))
            run.registered(settled)
            return settled, rows, unlearned


def _ends(version: Version, rows: list[EvaluationRow]) -> dict[str, float]:
    """What the slimmest and the widest sub-network reach: `top1_slimmest`, `top1_widest`."""
    *widths, _dynamic = rows
    name = version.headline.name
    return {f"{name}_slimmest": widths[0].value, f"{name}_widest": widths[-1].value}


def _settled(
    config: Config, dataset: Dataset, version: Version
) -> tuple[Version, list[EvaluationRow], str | None]:
    """The evaluated version with the aliases that are its due, what it reaches, doubts told, and
    why it did not learn, if so."""
    model, images = dsnet.load(local(config, version)), dataset.test.samples
    labels = Labels.of(dataset, model.task)
    rows = counts(version).rows(model)
    reached = points(rows, model, config.gate.target)
    headline = model.task.headline
    warn(doubts(*reached, headline, images, labels))
    unlearned = not_learned(*reached, headline, labels)
    targets = [] if config.gate.target is None else [config.gate.target]
    return settle(version, targets, images, [unlearned], config.promotion), rows, unlearned


def make_supernet(job: Job) -> Version:
    """The calibrated supernet, found or trained."""
    version: Version | None = None
    for stage in SUPERNET:
        version = find_or_train(job, stage, version)
    assert version is not None
    return version
