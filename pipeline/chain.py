"""The chain: ingest -> supernet -> calibrate -> gate -> evaluate -> promotion."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dsnet
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.checks import announce, check_classes, check_model
from pipeline.runner.evaluate import counts, evaluate
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.force import NOTHING, Force
from pipeline.runner.forced import begin_forced
from pipeline.runner.job import Job, local
from pipeline.runner.log_data import log_data
from pipeline.runner.plan import announce_plan, anything_to_do, plan
from pipeline.runner.promotion import settle
from pipeline.runner.sanity import Labels, not_learned, points_of, warnings_of
from pipeline.runner.seen import warn_of_seen
from pipeline.runner.starting_point import starting_point
from pipeline.runner.supernet import given_supernet
from pipeline.runner.train_gate import gate
from pipeline.stages import calibrate, supernet
from pipeline.stages.stage import Stage
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.evaluation import EvaluationRow

if TYPE_CHECKING:  # it brings Ray Train, without which a finished chain does
    from pipeline.training.worker_group import WorkerGroup

logger = logging.getLogger(__name__)

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
    out of the routing space's range, data that does not exist, a cluster that is too small.
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
    version = steps[-1].found
    with interruptible():
        if version is not None and not anything_to_do(steps):
            result = _settled(config, dataset, version)
        else:
            # Here, for a finished chain does without Ray Train.
            from pipeline.training.worker_group import WorkerGroup

            with nullcontext(workers) if workers else WorkerGroup() as group:
                group.start(config)  # they import PyTorch while the driver asks its store
                with tracking.chain_run(config) as run:
                    log_data(config, dataset, run)
                    job = Job(config, dataset, run, group, start, forced)
                    version = given or make_supernet(job)
                    for step in GATED:
                        version = step(job, version)
                    result = _settled(config, dataset, version)
                    # What chains are compared by; the other widths are in the stage's own run.
                    run.log(result.version.metrics | _ends(result))
                    run.registered(result.version)
    if forced is not None:
        forced.done()
    return result


def make_supernet(job: Job) -> Version:
    """The calibrated supernet, found or trained."""
    version: Version | None = None
    for stage in SUPERNET:
        version = find_or_train(job, stage, version)
    assert version is not None
    return version


def _ends(result: ChainResult) -> dict[str, float]:
    """What the slimmest and the widest sub-network reach: `top1_slimmest`, `top1_widest`."""
    *widths, _dynamic = result.rows
    name = result.version.headline.name
    return {f"{name}_slimmest": widths[0].value, f"{name}_widest": widths[-1].value}


def _settled(config: Config, dataset: Dataset, version: Version) -> ChainResult:
    """Give the evaluated version the aliases that it earns; log warnings about what it reaches."""
    model, images = dsnet.load(local(config, version)), dataset.test.samples
    labels, headline = Labels.of(dataset, model.task), model.task.headline
    rows = counts(version).rows(model)
    static, dynamic = points_of(rows, model, config.gate.target)
    for warning in warnings_of(static, dynamic, headline, images, labels):
        logger.warning("%s", warning)
    unlearned = not_learned(static, dynamic, headline, labels)
    targets = [] if config.gate.target is None else [config.gate.target]
    settled = settle(version, targets, images, [unlearned], config.promotion)
    # A supernet that the config names has versions of another chain.
    names = [] if config.gate.supernet else [f"{config.name}-supernet"]
    versions = [v for name in (*names, version.name) for v in registry.versions(name)]
    return ChainResult(settled, rows, images, versions, unlearned)
