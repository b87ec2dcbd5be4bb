"""The supernet that gates are made for: the one that the config names, and what fits of it."""

import logging

import dsnet
from dsnet import DSNet, InputError, restricted
from dsnet.models.create import task_of
from pipeline.config import Config
from pipeline.runner.job import Job
from pipeline.runner.register import holdout_tag
from pipeline.store import registry
from pipeline.store.registry import Version

logger = logging.getLogger(__name__)


def given_supernet(config: Config) -> Version | None:
    """The supernet that the config names, if it names one.

    Warns of one that kept other images from training than this chain will hold out: what a gate is
    chosen and priced by should be new to its supernet. Raises InputError for one that is not there,
    and for one of another task than the config's architecture.
    """
    if config.gate.supernet is None:
        return None
    version = registry.resolve(config.gate.supernet)
    wanted = task_of(config.model.arch).name
    if version.task != wanted:
        raise InputError(
            f"gate.supernet {version.uri}: expected a supernet for {wanted}, as model.arch "
            f"{config.model.arch} is, found one for {version.task}; name another, or the "
            "architecture that it has"
        )
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


def gateless(job: Job, supernet: Version) -> DSNet:
    """The supernet's network with the routes that the config allows, its gates untrained.

    Raises InputError for one of another number of classes than the data has, where those matter,
    and for one whose task was set otherwise than the config sets it.
    """
    model = dsnet.load(job.local(supernet))
    ours = task_of(job.config.model.arch).configured(job.config.task).settings()
    if (theirs := model.task.settings()) != ours:
        raise InputError(
            f"task: expected {theirs}, as the supernet {supernet.uri} was trained for, found {ours}"
        )
    wanted = job.config.model.num_classes or len(job.dataset.train.classes)
    found = model.architecture.num_classes
    if model.task.labelled and found != wanted:
        raise InputError(
            f"gate.supernet {supernet.uri}: expected a supernet of {wanted} classes, as the data "
            f"has, found one of {found}; train one with dsnet run, or name another"
        )
    return gates_fit(job.config, supernet.uri, model)


def gates_fit(config: Config, named: str, supernet: DSNet) -> DSNet:
    """The supernet `named` with the routes that the config allows, its gates untrained.

    Raises InputError where it has no gates, or others than `model.gates`.
    """
    wanted, found = config.model.gates, supernet.architecture.gates
    if not found or wanted not in (None, found):
        raise InputError(
            f"gate.supernet {named}: expected a supernet with gates"
            f"{f' in the stages {list(wanted)}, as model.gates says' if wanted else ''}, found "
            f"{f'them in {list(found)}' if found else 'none'}; train one with dsnet run, or name "
            "another"
        )
    return restricted(supernet, config.model.routes)
