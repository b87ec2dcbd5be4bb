"""Before any work: what cannot work is refused, and what will be done is said."""

import logging
from collections.abc import Sequence

from dsnet import DSNet, InputError
from dsnet.models import create
from dsnet.routing.looks import check_looks
from dsnet.tasks.base import Task
from dsnet.tasks.registry import find
from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.stages.network import new_network
from pipeline.store.registry import Version

logger = logging.getLogger(__name__)


def check_model(config: Config) -> None:
    """Raise InputError if the model cannot be made, its task not set, or the target not met."""
    create.task_of(config.model.arch).configured(config.task)
    model = new_network(config)
    if config.gate.target is not None:
        resolution = config.data.resolution
        config.gate.target.madds([model.madds(i, resolution) for i in model.space.routes])
    check_look(config, model, [config.gate.look])


def check_look(config: Config, model: DSNet, looks: Sequence[str]) -> None:
    """Raise InputError where the network, or how its gates are trained, has no second look."""
    if set(looks) <= {"first"}:
        return
    if config.gate.method != "table":
        raise InputError(
            f"a second look is trained by a routing table: expected gate.method table, found "
            f"{config.gate.method}"
        )
    check_looks(model)


def check_classes(config: Config, dataset: Dataset, given: Version | None) -> None:
    """Raise InputError if a classifier has fewer outputs than the data has classes."""
    wanted, classes = config.model.num_classes, len(dataset.train.classes)
    labelled = task_of(config, given).labelled
    if labelled and wanted is not None and wanted < classes:
        raise InputError(
            f"model.num_classes: expected at least {classes}, the classes of {config.data.source}, "
            f"found {wanted}"
        )


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
        return find(given.task)
    return create.task_of(config.model.arch)
