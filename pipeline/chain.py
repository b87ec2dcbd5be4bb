"""The chain: ingest -> supernet -> calibrate -> gate -> evaluate -> register."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import dsnet
from dsnet import DSNet, InputError, create_model, restricted, tasks
from dsnet.models.create import architecture
from dsnet.models.registry import family
from dsnet.routing import MAX_PATHS
from dsnet.routing.target import Target
from dsnet.routing.tuned import fitted
from dsnet.tasks import Task
from pipeline.cluster import ray_cluster
from pipeline.config import Config
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.job import (
    GATE,
    Job,
    find_or_train,
    headline,
    holdout_tag,
    register_model,
    run_loop,
)
from pipeline.runner.promotion import settle
from pipeline.runner.tables import make_tables
from pipeline.stages import calibrate as calibrate_stage
from pipeline.stages import evaluate as evaluate_stage
from pipeline.stages import gate as gate_stage
from pipeline.stages import supernet as supernet_stage
from pipeline.stages import table_gate as table_gate_stage
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.training.evaluation import Evaluation, EvaluationRow
from pipeline.training.sanity import Labels, Point, doubts

logger = logging.getLogger(__name__)


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


def run(config: Config) -> ChainResult:
    """Run every stage that is not done yet; each takes the version the one before registered.

    Raises InputError, before any training, for what cannot work: an unknown architecture, a target
    out of the routing space's range, data that is not there, a cluster that is too small.
    """
    tracking.configure()
    check_model(config)
    given = given_supernet(config)
    dataset = ingest(config)
    check_classes(config, dataset, given)
    announce(config, dataset, given)
    ray_cluster.connect(config.cluster)
    with tracking.chain_run(config) as run:
        job = Job(config, dataset, run)
        version = evaluate(job, gate(job, given or calibrate(job, supernet(job))))
        model, images = dsnet.load(job.local(version)), dataset.test.samples
        labels = Labels.of(dataset, model.task)
        rows = counts(version).rows(model)
        reached = points(rows, model, config.gate.target)
        warn(doubts(*reached, model.task.headline, images, labels))
        targets = [] if config.gate.target is None else [config.gate.target]
        version = settle(version, targets, images, labels)
        names = [version.name] if given else [job.supernet_name, version.name]
        versions = [v for name in names for v in registry.versions(name)]
        return ChainResult(version, rows, images, versions)


def announce(config: Config, dataset: Dataset, given: Version | None) -> None:
    """Say in one line what is trained on what; `given`: the supernet that the config names."""
    data, side = config.data, config.data.resolution
    classes = len(dataset.train.classes)
    logger.info(
        "%s: %s on %s (%s%s training and %s test images), recipe %s, %d x %d pixels",
        config.name,
        config.model.arch if given is None else f"the supernet {given.uri}",
        data.source,
        f"{classes} classes, " if task_of(config, given).labelled else "",
        f"{dataset.train.samples:,}",
        f"{dataset.test.samples:,}",
        data.recipe,
        side,
        side,
    )


def task_of(config: Config, given: Version | None) -> Task:
    """What the chain's network is for; `given`: the supernet that the config names."""
    if given is not None:
        return tasks.find(given.task)
    return family(architecture(config.model.arch).family).task


def points(
    rows: Sequence[EvaluationRow], model: DSNet, target: Target | None
) -> tuple[list[Point], list[Point]]:
    """What rows of `model` say of its routable widths, and of the dynamic network."""
    wanted = None
    if target is not None:
        wanted = target.madds([model.madds(route) for route in model.space.routes])
    routable = [rows[route] for route in model.space.routes]
    dynamic = rows[len(model.space) :]
    return (
        [Point(row.name, row.value, row.stderr, row.madds) for row in routable],
        [Point(row.name, row.value, row.stderr, row.madds, wanted) for row in dynamic],
    )


def warn(sentences: Sequence[str]) -> None:
    """Each doubt about a result as a warning."""
    for sentence in sentences:
        logger.warning("%s", sentence)


def given_supernet(config: Config) -> Version | None:
    """The supernet that the config names, if it names one.

    Warns of one that kept other images from training than this chain will hold out: what a gate is
    chosen and priced by should be new to its supernet. Raises InputError for one that is not there.
    """
    if config.gate.supernet is None:
        return None
    version = registry.resolve(config.gate.supernet)
    kept, ours = version.tags.get("holdout"), holdout_tag(config)
    if kept not in (None, ours):
        logger.warning(
            "gate.supernet %s kept other images from training (data.holdout, seed: %s) than this "
            "chain holds out (%s), so its gate's prices come in part from images that it has seen",
            version.uri,
            kept,
            ours,
        )
    return version


def supernet(job: Job) -> Version:
    """The supernet as stage I leaves it."""
    settings = {"metadata": job.dataset.metadata(job.config)}
    return find_or_train(job, supernet_stage.SPEC, job.supernet_name, supernet_stage.loop, settings)


def calibrate(job: Job, supernet: Version) -> Version:
    """The same supernet with recalibrated statistics."""
    return find_or_train(
        job, calibrate_stage.SPEC, job.supernet_name, calibrate_stage.loop, {}, supernet
    )


def gate(job: Job, supernet: Version) -> Version:
    """The gated network. Raises InputError for a supernet of another number of classes."""
    model = gateless(job, supernet)
    if by_table(job.config, model):
        return gate_by_table(job, supernet, model)
    return straight_through(job, supernet)


def by_table(config: Config, model: DSNet) -> bool:
    """Whether gates are trained on a table, as `gate.method` says; a warning, where they cannot."""
    if config.gate.method != "table":
        return False
    if (paths := len(model.space.routes)) <= MAX_PATHS:
        return True
    logger.warning(
        "gate.method table is for up to %d joint paths and %s has %d: straight_through is used",
        MAX_PATHS,
        model.architecture.name,
        paths,
    )
    return False


def straight_through(job: Job, supernet: Version) -> Version:
    """The gated network, its gates trained as the paper does, through the network."""
    return find_or_train(job, gate_stage.SPEC, job.config.name, gate_stage.loop, {}, supernet)


def gateless(job: Job, supernet: Version) -> DSNet:
    """The supernet's network with the routes that the config allows, its gates untrained.

    Raises InputError for one of another number of classes than the data has, where those matter.
    """
    model = dsnet.load(job.local(supernet))
    wanted = job.config.model.num_classes or len(job.dataset.train.classes)
    found = model.architecture.num_classes
    if model.task.labelled and found != wanted:
        raise InputError(
            f"gate.supernet {supernet.uri}: expected a supernet of {wanted} classes, as the data "
            f"has, found one of {found}; train one with dsnet run, or name another"
        )
    return restricted(model, job.config.model.routes)


def gate_by_table(job: Job, supernet: Version, model: DSNet) -> Version:
    """The gated network, its gates trained on the supernet's routing table."""
    key = job.fingerprint(table_gate_stage.SPEC, [supernet])
    if found := registry.find(job.config.name, key):
        return found
    tables = make_tables(job, supernet, model)
    with tracking.stage_run(job.run, GATE, {"fingerprint": key}) as run:
        train, holdout = tables.read("train"), tables.read("holdout")
        trained_gate = table_gate_stage.train_on(job.config, train, holdout)
        (outcome,) = trained_gate.outcomes
        ours = table_gate_stage.tuned(trained_gate, holdout)
        metrics = {**outcome.measures, "average_madds": outcome.madds}
        return register_model(
            job,
            GATE,
            job.config.name,
            fitted(model, ours),
            metrics,
            key,
            run,
            supernet,
            gates=[ours],
        )


def evaluate(job: Job, version: Version) -> Version:
    """Measure a registered version, loaded back from the registry, on the test images.

    Returns it with the counts and the headline figures among its tags.
    """
    key = job.fingerprint(evaluate_stage.SPEC, [version])
    if version.tags.get("evaluate_fingerprint") == key:
        return version
    directory = job.local(version)
    with tracking.stage_run(job.run, "evaluate", {"model": version.uri}) as run:
        settings = {"model": str(directory)}
        outcome = run_loop(job, evaluate_stage.SPEC, evaluate_stage.loop, settings, key, run)
    found = Evaluation.from_dict(outcome.metrics["evaluation"])
    if found.images != job.dataset.test.samples:
        raise RuntimeError(f"evaluated {found.images} of {job.dataset.test.samples} images")
    tags = {
        "evaluated_on": "test",
        "evaluation": json.dumps(found.to_dict()),
        # Last: what it is found by next time must not be there before the counts are.
        "evaluate_fingerprint": key,
    }
    return registry.annotate(version, tags, headline(found, dsnet.load(directory)))


def counts(version: Version) -> Evaluation:
    """What `evaluate` counted of a version on the test images."""
    return Evaluation.from_dict(json.loads(version.tags["evaluation"]))


def check_model(config: Config) -> None:
    """Raise InputError if the model cannot be made or the target cannot be met."""
    model = create_model(config.model.arch, config.model.num_classes, routes=config.model.routes)
    if config.gate.target is not None:
        resolution = config.data.resolution
        config.gate.target.madds([model.madds(i, resolution) for i in model.space.routes])


def check_classes(config: Config, dataset: Dataset, given: Version | None) -> None:
    """Raise InputError if a classifier has fewer outputs than the data has classes."""
    wanted, classes = config.model.num_classes, len(dataset.train.classes)
    labelled = task_of(config, given).labelled
    if labelled and wanted is not None and wanted < classes:
        raise InputError(
            f"model.num_classes: expected at least {classes}, the classes of {config.data.source}, "
            f"found {wanted}"
        )
