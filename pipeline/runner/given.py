"""A model directory becomes a version without being trained here: checked, measured, registered.

It is registered under a fingerprint of its own, of the digest of its files: a version that was
given is never taken for one that was trained, and what follows from it is found by it alone. That a
supernet takes the place of a chain's first stage is a tag (IN_PLACE_OF), which the chain looks for
beside that stage's fingerprint; of the two the newer version counts.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import dsnet
from dsnet import DSNet, InputError
from dsnet.errors.text import shown
from dsnet.io.files import SUMS, sha256
from dsnet.io.weights import load_gates
from dsnet.models.architecture import Architecture
from dsnet.routing.tuned import TunedGate
from dsnet.training import start_from
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins, storage_dir
from pipeline.data.dataset import Dataset, ingest
from pipeline.data.recipes import get_recipe
from pipeline.runner.checks import check_classes, check_model
from pipeline.runner.evaluate import evaluate
from pipeline.runner.find_or_train import run_stage
from pipeline.runner.job import GATE, Job, headline
from pipeline.runner.log_data import log_data
from pipeline.runner.promotion import SETTLED, settle
from pipeline.runner.register import register_model
from pipeline.runner.summary import summary
from pipeline.stages import given, supernet
from pipeline.stages.stage import OnModel
from pipeline.store import registry, tracking
from pipeline.store.card import Reached
from pipeline.store.fingerprint import fingerprint, place_of
from pipeline.store.registry import Version
from pipeline.store.version import GIVEN, IN_PLACE_OF
from pipeline.training.evaluation import Evaluation
from pipeline.training.sanity import Labels

if TYPE_CHECKING:  # it brings Ray Train
    from pipeline.training.worker_group import WorkerGroup

logger = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True)
class Given:
    """What is registered of a model directory."""

    model: DSNet
    gates: list[TunedGate]
    digest: str
    """SHA-256 of its SHA256SUMS."""


def register(
    config: Config,
    directory: Path,
    *,
    as_supernet: bool = False,
    workers: "WorkerGroup | None" = None,
) -> Version:
    """The version of a model directory, registered now or found where it was before.

    With trained gates it becomes a version of the chain's name, measured on the test images and
    promoted by the rule; without, one of its supernet's name, for `gate.supernet` and
    `supernet.from`. as_supernet: it takes the place of the configuration's first stage, its
    slimming heads put back to where stage II begins. workers: those of a chain, which stay; None:
    of this one alone.

    Raises InputError for what is no model directory or a damaged one, for one that does not fit the
    configuration (architecture, classes, task, resolution), and, as a supernet, for one whose gates
    are tuned for budgets and where the configuration names another supernet.
    """
    import_plugins(config)
    _refuse_another(config, as_supernet)
    loaded = _loaded(directory)
    tracking.configure()
    check_model(config)
    dataset = ingest(config)
    check_classes(config, dataset, None)
    with _about(directory):
        found = _fitting(config, dataset, loaded, as_supernet)
    supernet_wanted = as_supernet or not found.model.gates_trained
    kind = "as a supernet" if supernet_wanted else "with its gates"
    name = f"{config.name}-supernet" if supernet_wanted else config.name
    key = fingerprint(
        given.SPEC, config, inputs=[found.digest, kind], dataset_digest=dataset.digest
    )
    place = place_of(supernet.SPEC, config, dataset.digest) if as_supernet else None
    there = _there(config, dataset, name, key, place)
    # A gated one may have been interrupted before it was measured on the test images.
    if there is not None and (supernet_wanted or SETTLED in there.tags):
        logger.info("%s is %s already, registered before", directory, there.uri)
        return there
    tags = {GIVEN: found.digest, "given_from": str(directory), **_placed(place)}
    # Here, for what is there already does without Ray Train.
    from pipeline.training.worker_group import WorkerGroup

    ours = nullcontext(workers) if workers else WorkerGroup()
    with interruptible(), ours as at_work, tracking.chain_run(config, given=True) as run:
        log_data(config, dataset, run)
        job = Job(config, dataset, run, at_work)
        stage = supernet.SPEC.name if supernet_wanted else GATE
        with job.alone(f"{name}-{given.SPEC.name}", key):
            there = _there(config, dataset, name, key, place)
            version = there or _registered(job, found, stage, name, key, tags)
        if supernet_wanted:
            return version
        version = evaluate(job, version)
        labels = Labels.of(dataset, found.model.task)
        return settle(version, [], dataset.test.samples, labels, config.promotion)


def _registered(
    job: Job, found: Given, stage: str, name: str, key: str, tags: dict[str, str]
) -> Version:
    """Measured on the held-out images, and registered with what came of it."""
    model, gates = found.model, found.gates
    directory = dsnet.save(model, storage_dir(job.config) / "given" / key[:12], gates)
    with tracking.stage_run(job.run, given.SPEC.name, {"fingerprint": key, **tags}) as run:
        inputs = OnModel(job.dataset.train.place, directory)
        outcome = run_stage(job, given.STAGE, inputs, key, run)
        counts = Evaluation.from_dict(outcome.metrics["evaluation"])
        task = model.task
        line = summary(given.SPEC.name, outcome.metrics, outcome.seconds, task.headline)
        logger.info("%s", line)
        rows = counts.rows(model)[: len(model.space)]
        reached = Reached(counts.images, {index: row.value for index, row in enumerate(rows)})
        return register_model(
            job,
            stage,
            name,
            model,
            headline(counts, model),
            key,
            run,
            None,
            gates=gates,
            reached=reached,
            given=tags,
        )


def _placed(place: str | None) -> dict[str, str]:
    return {} if place is None else {IN_PLACE_OF: place}


def _there(
    config: Config, dataset: Dataset, name: str, key: str, place: str | None
) -> Version | None:
    """The version that a chain would find, if it is the one that was given."""
    if place is None:
        return registry.find(name, key)
    trained = fingerprint(supernet.SPEC, config, inputs=(), dataset_digest=dataset.digest)
    version = registry.find(name, trained, place)
    return version if version is not None and version.tags["fingerprint"] == key else None


def _refuse_another(config: Config, as_supernet: bool) -> None:
    """Raise InputError where the chain would not look for what takes its supernet's place."""
    for field, named in (
        ("gate.supernet", config.gate.supernet),
        ("supernet.from", config.supernet.from_),
    ):
        if as_supernet and named is not None:
            raise InputError(
                f"{field}: expected none, as --as-supernet gives the configuration its supernet, "
                f"found {named}; take it out of the configuration"
            )


@contextmanager
def _about(directory: Path) -> Iterator[None]:
    """Within, what goes wrong is about the network in `directory`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error


def _loaded(directory: Path) -> Given:
    """What is in a model directory. Raises InputError for anything else, and for a damaged one."""
    if not directory.is_dir():
        raise InputError(
            f"{directory}: expected a model directory, as dsnet import-official and dsnet pull "
            "make, found no folder there"
        )
    return Given(dsnet.load(directory), load_gates(directory), sha256(directory / SUMS))


def _fitting(config: Config, dataset: Dataset, found: Given, as_supernet: bool) -> Given:
    """The network as the configuration's chain takes it, with names for its classes.

    How it prepares images stays its own, for its weights were learned with that.
    """
    model = found.model
    wanted = dataset.metadata(config)
    ours = supernet.new_model(config, wanted)
    _check_layers(config, ours.architecture, model.architecture)
    _check_answers(config, ours, model)
    side = config.data.resolution
    if model.metadata.resolution != side:
        raise InputError(
            f"expected a network for images of {side} x {side} pixels, as data.resolution says, "
            f"found one for {model.metadata.resolution}; set data.resolution to that"
        )
    if model.metadata.crop != (crop := get_recipe(config.data.recipe).crop):
        logger.warning(
            "it evaluates the middle %g of a picture, and data.recipe %s the middle %g, by which "
            "it is measured and its gates are made",
            model.metadata.crop,
            config.data.recipe,
            crop,
        )
    model.metadata = replace(model.metadata, classes=model.metadata.classes or wanted.classes)
    if not as_supernet:
        return found
    if found.gates or model.metadata.prices:
        raise InputError(
            "expected a supernet, found a network whose gates are tuned for budgets; give the "
            "supernet that it was made of, or register it without --as-supernet"
        )
    if model.gates_trained:
        logger.info("its slimming heads are set aside: stage II trains others")
    fresh = supernet.new_model(config, model.metadata).eval()
    report = start_from(fresh, model)
    if report.part or report.anew:  # the layers are the same, so that this is a mistake here
        raise RuntimeError(f"expected every tensor of the network, took {report}")
    return replace(found, model=fresh)


def _check_layers(config: Config, ours: Architecture, theirs: Architecture) -> None:
    """Raise InputError, naming the first part that differs, for other layers than model.arch's."""
    pairs = {
        "family": (ours.family, theirs.family),
        "number of stages": (len(ours.stages), len(theirs.stages)),
        "pooling after the stem": (ours.stem_pool, theirs.stem_pool),
        "stem": (ours.stem, theirs.stem),
        **{
            f"stage {index}": pair
            for index, pair in enumerate(zip(ours.stages, theirs.stages, strict=False))
        },
    }
    for part, (wanted, found) in pairs.items():
        if wanted != found:
            raise InputError(
                f"expected the architecture of model.arch {config.model.arch}, found "
                f"{shown(theirs.name)}, whose {part} is another ({found}, not {wanted}); name its "
                "architecture in model.arch"
            )


def _check_answers(config: Config, ours: DSNet, theirs: DSNet) -> None:
    """Raise InputError where an output of one network means something else in the other."""
    if (settings := theirs.task.settings()) != ours.task.settings():
        raise InputError(
            f"expected a network for task {ours.task.settings()}, as the configuration says, found "
            f"one for {settings}"
        )
    if not ours.task.labelled:
        return
    wanted, found = ours.architecture.num_classes, theirs.architecture.num_classes
    if wanted != found:
        raise InputError(
            f"expected a network of {wanted} classes, as {config.data.source} and "
            f"model.num_classes say, found one of {found}"
        )
    names, known = ours.metadata.classes, theirs.metadata.classes
    if known and known != names:
        strange = [
            f"{shown(there)} in place of {shown(here)}"
            for here, there in zip(names, known, strict=False)
            if here != there
        ]
        told = ", ".join(strange[:_SHOWN]) or f"{len(known)} names for {len(names)}"
        raise InputError(
            f"expected the classes of {config.data.source} in their order, found {told}"
        )
