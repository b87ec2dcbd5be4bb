"""Folding: a network as a tree of plain layers, BatchNorm merged, a branch for every width.

A weight says which part of which supernet weight it is and what BatchNorm multiplies it with. A
backend cuts it out once, before the first image, so that running does arithmetic on images and
nothing else; a file can store what the widths share once.

The pixel's scale goes into the stem's weights too. The mean cannot: it is subtracted from the
image, because the convolution pads with zeros after normalisation, which is the mean in pixels.
"""

import copy
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Literal

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.block import Block, Stem
from dsnet.models.mbnet import MBNetStem, SeparableBlock
from dsnet.models.network import DSNet
from dsnet.models.resnet import EXPANSION, Bottleneck, ResNetStem
from dsnet.models.width import Width
from dsnet.nn.gate import Gate
from dsnet.nn.layers import SlimBatchNorm2d, SlimConv2d, SlimDepthwiseConv2d

MAX_PATHS = 64  # joint paths of several gates: each is a copy of every segment behind its gate

Activation = Literal["none", "relu", "silu"]


@dataclass(frozen=True, eq=False)
class Weight:
    """The first `shape` entries of `source` along each axis, times `scale` (o,) along the first."""

    source: Tensor
    shape: tuple[int, ...]
    scale: Tensor | None = None

    def tensor(self) -> Tensor:
        """Cut out: contiguous memory that nothing else views."""
        cut = self.source[tuple(slice(n) for n in self.shape)]
        return _own(cut if self.scale is None else _scaled(cut, self.scale))


@dataclass(frozen=True)
class Conv:
    """A convolution with its BatchNorm merged: weight (o, i / groups, k, k), bias (o,)."""

    weight: Weight
    bias: Tensor
    stride: int
    groups: int
    activation: Activation

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def padding(self) -> int:
        return self.kernel // 2


@dataclass(frozen=True)
class Linear:
    """weight (o, i), bias (o,) or None."""

    weight: Weight
    bias: Tensor | None


@dataclass(frozen=True)
class Attention:
    """Channel attention; `reduce` is followed by ReLU, `expand` by the sigmoid."""

    reduce: Linear
    expand: Linear


@dataclass(frozen=True)
class MaxPool:
    """3x3, stride 2, padding 1."""


@dataclass(frozen=True)
class Residual:
    """ReLU(body(x) + shortcut(x)); no shortcut is the identity."""

    body: tuple["Layer", ...]
    shortcut: tuple["Layer", ...]


Layer = Conv | Attention | MaxPool | Residual


@dataclass(frozen=True)
class Classifier:
    """Global average pooling and a linear layer: the end of sub-network `width`."""

    linear: Linear
    width: int


@dataclass(frozen=True)
class Fork:
    """A gate: attention on what comes in, then each image to the branch its slimming head picks.

    head: linear layers over the reduced feature with ReLU between them. cost: (branches,), see
    `DSNet.gate_costs`.
    """

    attention: Attention
    head: tuple[Linear, ...]
    cost: Tensor
    branches: tuple["Trunk", ...]


@dataclass(frozen=True)
class Trunk:
    """Layers, and what follows them."""

    layers: tuple[Layer, ...]
    end: Fork | Classifier


@dataclass(frozen=True)
class Folded:
    """A whole network for uint8 images: `trunk` runs on float(pixels) - mean.

    mean: (3,), in units of pixels. size: side of the images in pixels.
    """

    trunk: Trunk
    mean: Tensor
    size: int
    classes: int


@torch.no_grad()
def fold(model: DSNet, width: int | Width | None = None) -> Folded:
    """The eval mode of `model`: all it may route to or, with `width`, that sub-network alone.

    In single precision, whatever the model's. Raises InputError for a network without gates if no
    width is given, and for more than 64 paths.
    """
    if model.classifier.weight.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    if width is None:
        if not model.architecture.gates:
            raise InputError(f"{model.architecture.name} has no gate to route by: give a width")
        if (paths := len(model.space.routes)) > MAX_PATHS:
            raise InputError(
                f"routing among {paths} joint paths: expected at most {MAX_PATHS}, for each is a "
                "copy of the weights behind its gates; restrict the routes of the model"
            )
        trunk = _trunk(model, ())
    else:
        chosen = model.space.resolve(width)
        # The widest everywhere is no sub-network where gates keep the first segment slim.
        index = model.space.index(chosen) if chosen in model.space else -1
        trunk = _static(model, chosen, index)
    std = torch.tensor(model.metadata.std, device=device_of(model)) * 255
    stem, *rest = trunk.layers
    assert isinstance(stem, Conv)
    scaled = replace(
        stem, weight=replace(stem.weight, source=stem.weight.source / std[:, None, None])
    )
    return Folded(
        trunk=replace(trunk, layers=(scaled, *rest)),
        mean=torch.tensor(model.metadata.mean, device=device_of(model)) * 255,
        size=model.metadata.resolution,
        classes=model.architecture.num_classes,
    )


def device_of(model: DSNet) -> torch.device:
    """Where the weights are."""
    return model.classifier.weight.device


def _trunk(model: DSNet, path: tuple[int, ...]) -> Trunk:
    """The segment that the choices `path` lead to, and everything behind it."""
    gates = model.architecture.gates
    segment = len(path)
    width = model.space[model.space.index_of(path + (0,) * (len(gates) - segment))]
    layers, channels = _segment(model, segment, width)
    if segment == len(gates):
        return Trunk(layers, _classifier(model, channels, model.space.index_of(path)))
    block = model.block(gates[segment], 0)
    assert block.gate is not None and block.gate.slimming is not None
    head = block.gate.slimming
    linears = [head] if isinstance(head, nn.Linear) else head.children()
    fork = Fork(
        attention=_attention(block.gate, channels),
        head=tuple(
            _linear(m.weight, m.bias, tuple(m.weight.shape))
            for m in linears
            if isinstance(m, nn.Linear)
        ),
        cost=model.gate_costs(device_of(model))[segment],
        branches=tuple(_trunk(model, (*path, entry)) for entry in model.space.choices[segment]),
    )
    return Trunk(layers, fork)


def _static(model: DSNet, width: Width, index: int) -> Trunk:
    """One sub-network: gates keep their attention and choose nothing."""
    layers: list[Layer] = []
    for segment in range(len(model.architecture.gates) + 1):
        more, channels = _segment(model, segment, width)
        layers += more
        if segment < len(model.architecture.gates):
            gate = model.block(model.architecture.gates[segment], 0).gate
            assert gate is not None
            layers.append(_attention(gate, channels))
    return Trunk(tuple(layers), _classifier(model, channels, index))


def _segment(model: DSNet, segment: int, width: Width) -> tuple[tuple[Layer, ...], int]:
    """What `DSNet.segment` runs, up to the gate's input, and the channels of that."""
    gates = model.architecture.gates
    layers: list[Layer] = []
    channels = width.channels[0]
    start = 0
    if segment == 0:
        layers += fold_stem(model.stem, channels)
    else:
        start = gates[segment - 1]
        channels = width.channels[start]
    stop = gates[segment] if segment < len(gates) else len(model.stages)
    for stage in range(start, stop):
        outputs = width.channels[stage + 1]
        for index in range(model.architecture.stages[stage].blocks):
            block = model.block(stage, index)
            # The block of the gate before: its first half and its attention lie behind us.
            if segment == 0 or (stage, index) != (start, 0):
                layers += fold_before(block, channels)
                if block.gate is not None:
                    layers.append(_attention(block.gate, channels))
            layers += fold_after(block, channels, outputs)
            channels = outputs
    if segment < len(gates):
        layers += fold_before(model.block(stop, 0), channels)
    return tuple(layers), channels


@singledispatch
def fold_stem(stem: Stem, channels: int) -> list[Layer]:
    """`stem` at a width of `channels`."""
    raise NotImplementedError(type(stem).__name__)


@singledispatch
def fold_before(block: Block, inputs: int) -> list[Layer]:
    """`block.before` at a width of `inputs` channels."""
    raise NotImplementedError(type(block).__name__)


@singledispatch
def fold_after(block: Block, inputs: int, outputs: int) -> list[Layer]:
    """`block.after` from `inputs` to `outputs` channels."""
    raise NotImplementedError(type(block).__name__)


@fold_stem.register
def _(stem: MBNetStem, channels: int) -> list[Layer]:
    return [_conv(stem.conv, stem.bn, 3, channels, "silu")]


@fold_before.register
def _(block: SeparableBlock, inputs: int) -> list[Layer]:
    return [_conv(block.depthwise, block.bn1, inputs, inputs, "silu")]


@fold_after.register
def _(block: SeparableBlock, inputs: int, outputs: int) -> list[Layer]:
    return [_conv(block.pointwise, block.bn2, inputs, outputs, "silu")]


@fold_stem.register
def _(stem: ResNetStem, channels: int) -> list[Layer]:
    conv = _conv(stem.conv, stem.bn, 3, channels, "relu")
    return [conv, MaxPool()] if stem.pool else [conv]


@fold_before.register
def _(block: Bottleneck, inputs: int) -> list[Layer]:
    return []


@fold_after.register
def _(block: Bottleneck, inputs: int, outputs: int) -> list[Layer]:
    hidden = outputs // EXPANSION
    body: tuple[Layer, ...] = (
        _conv(block.conv1, block.bn1, inputs, hidden, "relu"),
        _conv(block.conv2, block.bn2, hidden, hidden, "relu"),
        _conv(block.conv3, block.bn3, hidden, outputs, "none"),
    )
    shortcut: tuple[Layer, ...] = ()
    if block.projection is not None:
        shortcut = (_conv(block.projection, block.projection_bn, inputs, outputs, "none"),)
    return [Residual(body, shortcut)]


def _conv(
    conv: SlimConv2d | SlimDepthwiseConv2d,
    bn: SlimBatchNorm2d,
    inputs: int,
    outputs: int,
    activation: Activation,
) -> Conv:
    scale, shift = bn.folded(outputs)
    depthwise = isinstance(conv, SlimDepthwiseConv2d)
    shape = (outputs, 1 if depthwise else inputs, *conv.weight.shape[2:])
    return Conv(
        weight=Weight(conv.weight.detach(), shape, scale),
        bias=shift,
        stride=conv.stride,
        groups=inputs if depthwise else 1,
        activation=activation,
    )


def _attention(gate: Gate, channels: int) -> Attention:
    reduced = gate.reduce.out_features
    return Attention(
        _linear(gate.reduce.weight, gate.reduce.bias, (reduced, channels)),
        _linear(gate.expand.weight, gate.expand.bias, (channels, reduced)),
    )


def _classifier(model: DSNet, channels: int, width: int) -> Classifier:
    layer = model.classifier
    return Classifier(_linear(layer.weight, layer.bias, (layer.out_features, channels)), width)


def _linear(weight: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> Linear:
    return Linear(Weight(weight.detach(), shape), None if bias is None else _own(bias[: shape[0]]))


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
