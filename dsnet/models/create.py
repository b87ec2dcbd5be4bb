"""create_model: the one door to every architecture."""

import difflib
from collections.abc import Sequence
from dataclasses import replace

from dsnet.errors import InputError
from dsnet.models.architecture import Architecture
from dsnet.models.metadata import Metadata
from dsnet.models.network import DSNet
from dsnet.models.registry import ARCHITECTURES, family
from dsnet.models.width import RoutingSpace
from dsnet.tasks.base import Task


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises InputError, naming the nearest, if there is none."""
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=1, cutoff=0.0)
        raise InputError(
            f"architecture {name!r} is not known, did you mean {near[0]!r}? "
            f"known: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def task_of(name: str) -> Task:
    """What an architecture is for. Raises InputError as `architecture`."""
    return family(architecture(name).family).task


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    gates: Sequence[int] | None = None,
    routes: Sequence[int] | Sequence[Sequence[int]] | None = None,
    dropout: float | None = None,
    metadata: Metadata | None = None,
) -> DSNet:
    """A freshly initialised network.

    num_classes, dropout: default to the architecture's own.
    gates: the stages, counted from 0, whose first block gets a gate; the architecture's own by
        default. Stages between two gates share a choice, so their channel lists are of one length.
    routes: the sub-networks that the gate may choose (with several gates, the entries that each
        may choose); all by default. The paper's small, medium and large models are `ds_mbnet` or
        `ds_mbnet_wide` so restricted: [0, 1, 2, 3] spans 133M to 200M multiply-adds, [4, …, 9]
        226M to 393M, and [10, …, 16] of `ds_mbnet_wide` 433M to 719M.
    Raises InputError for an unknown name or a value out of range.
    """
    base = architecture(name)
    if gates is not None:
        base = base.with_gates(gates)
    base = base.with_routes(routes)
    return DSNet(
        replace(
            base,
            num_classes=base.num_classes if num_classes is None else num_classes,
            dropout=base.dropout if dropout is None else dropout,
        ),
        metadata,
    )


def of_one_width(base: Architecture, width: int) -> Architecture:
    """The sub-network `width` of a supernet as an architecture of its own, to train by itself.

    It has the supernet's gates, each with one route, and in their attention units for its own
    channels. Raises InputError for a width that is not there.
    """
    channels = RoutingSpace(base).resolve(width).channels
    return replace(
        base,
        name=f"{base.name}_width_{width}",
        stem=replace(base.stem, channels=channels[:1]),
        stages=tuple(
            replace(stage, channels=(count,))
            for stage, count in zip(base.stages, channels[1:], strict=True)
        ),
        routes=None,
    )


def restricted(model: DSNet, routes: Sequence[int] | Sequence[Sequence[int]] | None) -> DSNet:
    """`model` with gates that may choose `routes` alone: the same trunk, untrained slimming heads.

    With None it is returned as it is. Raises InputError for routes that are not there.
    """
    if routes is None:
        return model
    metadata = replace(model.metadata, prices=(), price=0.0)
    chosen = DSNet(model.architecture.with_routes(routes), metadata)
    trunk = {name: value for name, value in model.state_dict().items() if ".slimming." not in name}
    chosen.load_state_dict(trunk, strict=False)
    return chosen.train(model.training)
