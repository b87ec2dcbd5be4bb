"""The plan of a network: plain layers with BatchNorm merged, that take no width and have no mode.

A weight says which part of which supernet weight it is and what BatchNorm multiplies it with. A
backend cuts it out once, before the first image, so that running does arithmetic on images and
nothing else; a file can store what the widths share once.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Never

import torch
from torch import Tensor

from dsnet.nn.gate import Gate
from dsnet.nn.layers import (
    Shape,
    SlimBatchNorm2d,
    SlimBias2d,
    SlimConv2d,
    SlimDepthwiseConv2d,
    area,
    strided,
)

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
class GlobalAverage:
    """The mean of each channel: (N, c, H, W) -> (N, c)."""


@dataclass(frozen=True)
class Attention:
    """Channel attention; `reduce` is followed by ReLU, `expand` by the sigmoid."""

    reduce: Linear
    expand: Linear


@dataclass(frozen=True)
class MaxPool:
    """3x3, stride 2, padding 1."""


@dataclass(frozen=True)
class PixelShuffle:
    """(N, c * factor², H, W) -> (N, c, H * factor, W * factor), as torch's."""

    factor: int


@dataclass(frozen=True)
class Residual:
    """activation(body(x) + shortcut(x)); no shortcut is the identity."""

    body: tuple["Layer", ...]
    shortcut: tuple["Layer", ...]
    activation: Activation


@dataclass(frozen=True)
class Ranked:
    """What a classifier's answer tells of itself: its greatest log-probabilities, falling.

    Logits (N, K) -> (N, min(count, K)).
    """

    count: int

    def __call__(self, logits: Tensor) -> Tensor:
        """In single precision."""
        logs = logits.float().log_softmax(1)
        return logs.topk(self.size(logs.shape[1])).values

    def size(self, classes: int) -> int:
        """How many they are of that many classes."""
        return min(self.count, classes)


Layer = Conv | Attention | MaxPool | PixelShuffle | Residual | GlobalAverage | Linear


def plain_conv(
    conv: SlimConv2d | SlimDepthwiseConv2d,
    shifts: SlimBatchNorm2d | SlimBias2d | None,
    inputs: int,
    outputs: int,
    activation: Activation,
) -> Conv:
    """`conv` from `inputs` to `outputs` channels, what shifts them merged."""
    scale, shift = shifts.folded(outputs) if shifts else (None, conv.weight.new_zeros(outputs))
    depthwise = isinstance(conv, SlimDepthwiseConv2d)
    shape = (outputs, 1 if depthwise else inputs, *conv.weight.shape[2:])
    return Conv(
        weight=Weight(conv.weight.detach(), shape, scale),
        bias=shift.detach(),
        stride=conv.stride,
        groups=inputs if depthwise else 1,
        activation=activation,
    )


def plain_attention(gate: Gate, channels: int) -> tuple[Attention, ...]:
    """A gate's attention at a width of `channels`; none where it has none."""
    if gate.reduce is None or gate.expand is None:
        return ()
    reduced = gate.features
    attention = Attention(
        plain_linear(gate.reduce.weight, gate.reduce.bias, (reduced, channels)),
        plain_linear(gate.expand.weight, gate.expand.bias, (channels, reduced)),
    )
    return (attention,)


def plain_linear(weight: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> Linear:
    """The first `shape` (o, i) of a weight, and as much of its bias."""
    return Linear(Weight(weight.detach(), shape), None if bias is None else _own(bias[: shape[0]]))


def count_madds(layers: Iterable[Layer], channels: int, size: Shape) -> tuple[int, int, Shape]:
    """Multiply-adds of layers for one image, then channels and size of what comes out.

    channels, size: of what goes in. As in the published counts, pooling costs the size of its
    input, and biases, activations and the product with attention cost nothing.
    """
    count = 0
    for layer in layers:
        match layer:
            case Conv():
                size = strided(size, layer.stride)
                count += math.prod(layer.weight.shape) * area(size)
                channels = layer.weight.shape[0]
            case Attention():
                count += channels * area(size)
                count += math.prod(layer.reduce.weight.shape) + math.prod(layer.expand.weight.shape)
            case MaxPool():
                count += channels * area(size)
                size = strided(size, 2)
            case PixelShuffle():
                channels //= layer.factor**2
                size = size[0] * layer.factor, size[1] * layer.factor
            case Residual():
                count += count_madds(layer.shortcut, channels, size)[0]
                body, channels, size = count_madds(layer.body, channels, size)
                count += body
            case GlobalAverage():
                count += channels * area(size)
            case Linear():
                count += math.prod(layer.weight.shape)
                channels = layer.weight.shape[0]
            case _:
                unknown_layer(layer)
    return count, channels, size


def unknown_layer(layer: Never) -> Never:
    """Raise TypeError for a layer that a walk over a plan has no case for.

    That it is never called is checked with the types; a family from elsewhere may still bring one.
    """
    raise TypeError(f"{type(layer).__name__} is not one of the layers of dsnet.nn.plan")


def unknown_activation(activation: Never) -> Never:
    """As `unknown_layer`."""
    raise TypeError(f"{activation!r} is not one of the activations of dsnet.nn.plan")


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)
