"""A model directory made elsewhere becomes a version: checked, measured, registered.

Its fingerprint is of the digest of its files, so that it is never taken for a version that was
trained here, and what follows from it is found by it alone. That a supernet takes the place of a
chain's first stage is a tag (IN_PLACE_OF). The chain looks for that tag as well as for the stage's
fingerprint; of the two the newer version counts.
"""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import dsnet
from dsnet import InputError
from pipeline.cluster.interrupts import interruptible
from pipeline.config import Config, import_plugins, storage_dir
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.checks import check_classes, check_model
from pipeline.runner.evaluate import counts, evaluate
from pipeline.runner.external_model import ExternalModel, about, adapted, read
from pipeline.runner.find_or_train import reached_by
from pipeline.runner.job import GATE, Job, headline
from pipeline.runner.log_data import log_data
from pipeline.runner.promotion import SETTLED, settle
from pipeline.runner.register import register_model
from pipeline.runner.sanity import Labels, not_learned, points_of
from pipeline.runner.summary import log_summary
from pipeline.stages import external, supernet
from pipeline.stages.stage import OnModel
from pipeline.store import registry, tracking
from pipeline.store.fingerprint import fingerprint, place_of
from pipeline.store.registry import Version
from pipeline.store.version import GIVEN, IN_PLACE_OF

if TYPE_CHECKING:  # it brings Ray Train, without which a registered directory does
    from pipeline.training.worker_group import WorkerGroup

logger = logging.getLogger(__name__)


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
    network = read(directory)
    tracking.configure()
    check_model(config)
    dataset = ingest(config)
    check_classes(config, dataset, None)
    with about(directory):
        found = adapted(config, dataset, network, as_supernet)
    supernet_wanted = as_supernet or not found.model.gates_trained
    kind = "as a supernet" if supernet_wanted else "with its gates"
    name = f"{config.name}-supernet" if supernet_wanted else config.name
    key = fingerprint(
        external.SPEC, config, inputs=[found.digest, kind], dataset_digest=dataset.digest
    )
    place = place_of(supernet.SPEC, config, dataset.digest) if as_supernet else None
    there = _there(config, dataset, name, key, place)
    # A gated one may have been interrupted before it was measured on the test images.
    if there is not None and (supernet_wanted or SETTLED in there.tags):
        logger.info("%s is %s already, registered before", directory, there.uri)
        return there
    placed = {IN_PLACE_OF: place} if place is not None else {}
    tags = {GIVEN: found.digest, "given_from": str(directory), **placed}
    # Here, for what is registered already does without Ray Train.
    from pipeline.training.worker_group import WorkerGroup

    ours = nullcontext(workers) if workers else WorkerGroup()
    with interruptible(), ours as at_work, tracking.chain_run(config, given=True) as run:
        log_data(config, dataset, run)
        job = Job(config, dataset, run, at_work)
        stage = supernet.SPEC.name if supernet_wanted else GATE
        with job.alone(f"{name}-{external.SPEC.name}", key):
            there = _there(config, dataset, name, key, place)
            version = there or _registered(job, found, stage, name, key, tags)
        if supernet_wanted:
            run.registered(version)
            return version
        version = evaluate(job, version)
        model = found.model
        reached = points_of(counts(version).rows(model), model, None)
        labels = Labels.of(dataset, model.task)
        unlearned = not_learned(*reached, model.task.headline, labels)
        settled = settle(version, [], dataset.test.samples, [unlearned], config.promotion)
        run.registered(settled)
        return settled


def _registered(
    job: Job, found: ExternalModel, stage: str, name: str, key: str, tags: dict[str, str]
) -> Version:
    """Measure it on the held-out images, and register it with what it reaches."""
    model, gates = found.model, found.gates
    directory = dsnet.save(model, storage_dir(job.config) / "given" / key[:12], gates)
    with tracking.stage_run(job.run, external.SPEC.name, {"fingerprint": key, **tags}) as run:
        inputs = OnModel(job.dataset.train.place, directory)
        result = job.workers.run(
            external.SPEC.name, external.STAGE.loop, inputs, job.config, fingerprint=key, run=run
        )
        log_summary(external.SPEC.name, result.metrics, result.seconds, model)
        return register_model(
            job,
            stage,
            name,
            model,
            headline(result.evaluation, model),
            key,
            run,
            None,
            gates=gates,
            reached=reached_by(result.evaluation, model),
            given=tags,
        )


def _there(
    config: Config, dataset: Dataset, name: str, key: str, place: str | None
) -> Version | None:
    """The version that a chain would find, if it is of this directory."""
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
