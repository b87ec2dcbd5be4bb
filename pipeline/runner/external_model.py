"""A network that was made elsewhere: read from its directory, checked against a configuration."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dsnet
from dsnet import DSNet, InputError
from dsnet.errors.text import shown
from dsnet.io.files import SUMS, sha256
from dsnet.io.weights import load_gates
from dsnet.models.architecture import Architecture
from dsnet.routing.tuned import TunedGate
from dsnet.training import start_from
from pipeline.config import Config
from pipeline.data.augment.recipes import get_recipe
from pipeline.data.dataset import Dataset
from pipeline.stages import supernet

logger = logging.getLogger(__name__)

_SHOWN = 3  # classes that differ, in a refusal


@dataclass(frozen=True)
class ExternalModel:
    """What is registered of a model directory."""

    model: DSNet
    gates: list[TunedGate]
    digest: str
    """SHA-256 of its SHA256SUMS."""


def read(directory: Path) -> ExternalModel:
    """What is in a model directory. Raises InputError for anything else, and for a damaged one."""
    if not directory.is_dir():
        raise InputError(
            f"{directory}: expected a model directory, as dsnet import-official and dsnet pull "
            "make, found no folder there"
        )
    return ExternalModel(dsnet.load(directory), load_gates(directory), sha256(directory / SUMS))


@contextmanager
def about(directory: Path) -> Iterator[None]:
    """Within, what goes wrong is about the network in `directory`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{directory}: {error}") from error


def adapted(
    config: Config, dataset: Dataset, found: ExternalModel, as_supernet: bool
) -> ExternalModel:
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
    gates, found_gates = ours.gates, theirs.gates
    ours, theirs = ours.with_gates(()), theirs.with_gates(())
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
    if gates != found_gates:
        raise InputError(
            f"expected a network with gates in the stages {list(gates)}, as the configuration "
            f"says, found {f'them in {list(found_gates)}' if found_gates else 'none'}; set "
            "model.gates to that, or start a training from the network with supernet.from"
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
