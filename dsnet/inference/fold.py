"""Folding: a network as a tree of plain layers, BatchNorm merged, a branch for every width.

Which layers a block comes to is the block's own to say: see `Block.plan_before`.

The pixel's scale goes into the stem's weights too. The mean cannot: it is subtracted from the
image, because the convolution pads with zeros after normalisation, which is the mean in pixels.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.network import DSNet
from dsnet.models.width import Width
from dsnet.nn.plan import (
    Attention,
    Conv,
    Layer,
    Linear,
    Ranked,
    plain_attention,
    plain_linear,
)

MAX_PATHS = 64  # joint paths of several gates: each is a copy of every segment behind its gate


@dataclass(frozen=True)
class End:
    """The head's layers: the end of sub-network `width`."""

    layers: tuple[Layer, ...]
    width: int


Scorer = tuple[Linear, ...]
"""A slimming head: linear layers with ReLU between them."""


@dataclass(frozen=True)
class Looks:
    """Where a network looks again: what decides after each branch but the widest."""

    evidence: Ranked
    """Of a branch's outputs."""
    heads: tuple[Scorer, ...]
    """Over the evidence."""
    cost: Tensor
    """(branches, branches), see `DSNet.look_costs`."""
    shape: tuple[int, ...]
    """Of a branch's output for one image."""
    prefix: int
    """Multiply-adds of what is before the fork."""
    tails: tuple[int, ...]
    """Multiply-adds of each branch."""


@dataclass(frozen=True)
class Fork:
    """A gate: attention on what comes in, then each image to the branch its slimming head picks."""

    attention: Attention | None
    """None where what comes in goes on as it is, and its `moments` are the feature."""
    features: int
    """Size of the feature, at the gate's widest; zeros fill up what a slim input lacks."""
    head: Scorer
    """Over the reduced feature."""
    cost: Tensor
    """(branches,), see `DSNet.gate_costs`."""
    branches: tuple["Trunk", ...]
    looks: Looks | None = None
    """Whether an image may go on to a wider branch, with what came in; None: each runs one."""


@dataclass(frozen=True)
class Trunk:
    """Layers, and what follows them."""

    layers: tuple[Layer, ...]
    end: Fork | End


@dataclass(frozen=True)
class Folded:
    """A whole network for uint8 images: `trunk` runs on float(pixels) - mean."""

    trunk: Trunk
    mean: Tensor
    """(3,), in units of pixels."""
    size: int | None
    """Side of the images in pixels; None: any."""
    outputs: tuple[int, ...]
    """Shape of the output for one image, (classes,)."""
    madds: tuple[int, ...]
    """Multiply-adds of each sub-network by its number, the last of what has none (-1)."""
    onto: "Onto | None" = None
    """Where outputs are pictures, how they are made of the trunk's."""


@dataclass(frozen=True)
class Onto:
    """Outputs are pictures of the images' size: the trunk's, cut to it, plus the image itself."""

    scale: Tensor
    """(3,), from pixels less their mean to the network's inputs."""
    factor: int
    """The trunk's outputs have the image's sides, rounded up to multiples of it."""
    per_square: tuple[int, ...]
    """Multiply-adds of each sub-network for each square of factor x factor pixels, in the order of
    `Folded.madds`."""


@torch.no_grad()
def fold(model: DSNet, width: int | Width | None = None) -> Folded:
    """The eval mode of `model`: all it may route to or, with `width`, that sub-network alone.

    In single precision, whatever the model's. Raises InputError for a network without gates if no
    width is given, and for more than 64 paths.
    """
    if next(model.parameters()).dtype != torch.float32:
        model = copy.deepcopy(model).float()
    if width is None:
        if not model.architecture.gates:
            raise InputError(f"{model.architecture.name} has no gate to route by: give a width")
        if (paths := len(model.space.routes)) > MAX_PATHS:
            raise InputError(
                f"routing among {paths} joint paths: expected at most {MAX_PATHS}, for each is a "
                "copy of the weights behind its gates; restrict the routes of the model"
            )
        trunk, last = _trunk(model, ()), model.space.largest
    else:
        chosen = model.space.resolve(width)
        # The widest everywhere is no sub-network where gates keep the first segment slim.
        index = model.space.index(chosen) if chosen in model.space else -1
        trunk, last = _static(model, chosen, index), chosen
    std = _on_device(model, model.metadata.std)
    stem, *rest = trunk.layers
    assert isinstance(stem, Conv)
    scaled = replace(
        stem, weight=replace(stem.weight, source=stem.weight.source / std[:, None, None])
    )
    size = model.metadata.resolution
    onto = _onto(model, last, 1 / std) if model.head.factor else None
    return Folded(
        trunk=replace(trunk, layers=(scaled, *rest)),
        mean=_on_device(model, model.metadata.mean),
        size=None if onto else size,
        outputs=model.head.shape((size, size)),
        madds=(*map(model.madds, range(len(model.space))), model.madds(last)),
        onto=onto,
    )


def _on_device(model: DSNet, channels: tuple[float, ...]) -> Tensor:
    """Of pixels, float32 (3,)."""
    return torch.tensor(channels, dtype=torch.float32, device=device_of(model)) * 255


def _onto(model: DSNet, last: Width, scale: Tensor) -> Onto:
    """Raises InputError for a network whose multiply-adds do not grow as its pictures do."""
    factor = model.head.factor
    widths = (*range(len(model.space)), last)
    per_square = tuple(model.madds(width, factor) for width in widths)
    for side in (2, 3, 5):
        counts = tuple(model.madds(width, factor * side) for width in widths)
        if counts != tuple(side**2 * each for each in per_square):
            raise InputError(
                f"{model.architecture.name}: expected multiply-adds by the square of {factor} x "
                f"{factor} pixels, found others; a head that enlarges by {factor} is for networks "
                f"whose layers all run at 1 / {factor} of the resolution"
            )
    return Onto(scale, factor, per_square)


def device_of(model: DSNet) -> torch.device:
    """Where the weights are."""
    return next(model.parameters()).device


def _trunk(model: DSNet, path: tuple[int, ...]) -> Trunk:
    """The segment that the choices `path` lead to, and everything behind it."""
    gates = model.architecture.gates
    segment = len(path)
    layers, channels = model.plan(segment, model.space.along(path))
    if segment == len(gates):
        return Trunk(tuple(layers), _end(model, channels, model.space.index_of(path)))
    block = model.block(gates[segment], 0)
    assert block.gate is not None and block.gate.slimming is not None
    fork = Fork(
        attention=next(iter(plain_attention(block.gate, channels)), None),
        features=block.gate.features,
        head=_scorer(block.gate.slimming),
        cost=model.gate_costs(device_of(model))[segment],
        branches=tuple(_trunk(model, (*path, entry)) for entry in model.space.choices[segment]),
        looks=_looks(model),
    )
    return Trunk(tuple(layers), fork)


def _scorer(head: nn.Module) -> Scorer:
    return tuple(
        plain_linear(layer.weight, layer.bias, tuple(layer.weight.shape))
        for layer in head.modules()
        if isinstance(layer, nn.Linear)
    )


def _looks(model: DSNet) -> Looks | None:
    if model.looks is None:
        return None
    evidence = model.task.evidence()
    assert evidence is not None
    return Looks(
        evidence=evidence,
        heads=tuple(map(_scorer, model.looks)),
        cost=model.look_costs(device_of(model)),
        shape=model.head.shape((model.metadata.resolution,) * 2),
        prefix=model.prefix_madds(),
        tails=tuple(map(model.tail_madds, model.space.routes)),
    )


def _static(model: DSNet, width: Width, index: int) -> Trunk:
    """One sub-network: gates keep their attention and choose nothing."""
    layers: list[Layer] = []
    for segment in range(len(model.architecture.gates) + 1):
        more, channels = model.plan(segment, width)
        layers += more
        if segment < len(model.architecture.gates):
            gate = model.block(model.architecture.gates[segment], 0).gate
            assert gate is not None
            layers += plain_attention(gate, channels)
    return Trunk(tuple(layers), _end(model, channels, index))


def _end(model: DSNet, channels: int, width: int) -> End:
    return End(tuple(model.head.plan(channels)), width)
