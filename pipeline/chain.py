"""The chain: ingest -> supernet -> calibrate -> gate -> evaluate -> promotion."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import dsnet
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins
from pipeline.data.dataset import ingest
from pipeline.runner.checks import announce, check_classes, check_model
from pipeline.runner.doubts import points, warn
from pipeline.runner.evaluate import counts, evaluate
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.force import NOTHING, Force
from pipeline.runner.gate import gate
from pipeline.runner.job import Job
from pipeline.runner.plan import announce_plan, begin_forced, plan
from pipeline.runner.promotion import settle
from pipeline.runner.starting_point import starting_point
from pipeline.runner.supernet import given_supernet
from pipeline.stages import calibrate, supernet
from pipeline.stages.stage import Stage
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.evaluation import EvaluationRow
from pipeline.training.sanity import Labels, doubts
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


def run(
    config: Config, *, force: Force = NOTHING, workers: WorkerGroup | None = None
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
    specs = [stage.spec for stage in SUPERNET]
    steps, forced = begin_forced(config, plan(config, dataset, specs, given, start, force))
    announce_plan(steps)
    ours = WorkerGroup() if workers is None else nullcontext(workers)
    with interruptible(), tracking.chain_run(config) as run, ours as at_work:
        job = Job(config, dataset, run, at_work, start, forced)
        version = given or make_supernet(job)
        for step in GATED:
            version = step(job, version)
        model, images = dsnet.load(job.local(version)), dataset.test.samples
        labels = Labels.of(dataset, model.task)
        rows = counts(version).rows(model)
        reached = points(rows, model, config.gate.target)
        warn(doubts(*reached, model.task.headline, images, labels))
        targets = [] if config.gate.target is None else [config.gate.target]
        version = settle(version, targets, images, labels)
        if forced is not None:
            forced.done()
        names = [version.name] if given else [job.supernet_name, version.name]
        versions = [v for name in names for v in registry.versions(name)]
        return ChainResult(version, rows, images, versions)


def make_supernet(job: Job) -> Version:
    """The calibrated supernet, found or trained."""
    version: Version | None = None
    for stage in SUPERNET:
        version = find_or_train(job, stage, version)
    assert version is not None
    return version
