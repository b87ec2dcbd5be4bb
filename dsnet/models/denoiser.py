"""DS-Denoiser: a flat residual network at half the resolution, for pictures of any size.

Without BatchNorm, and without attention in its gate: what a pixel becomes depends on those around
it alone, and not on the average of the picture or of the pictures that it was trained with.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.models.architecture import Architecture, Stage
from dsnet.models.block import Block, Stem
from dsnet.models.head import Head
from dsnet.nn.gate import Gate
from dsnet.nn.layers import Shape, SlimBias2d, SlimConv2d
from dsnet.nn.plan import Layer, PixelShuffle, Residual, plain_conv

FACTOR = 2
QUIET = 0.1  # of a block's last weights, for what is not normalised not to grow from block to block


class DenoiserStem(Stem):
    """A convolution to half the resolution, and bias. Linear: no sign of the noise is lost."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__(stage, pool)
        self.conv = SlimConv2d(3, stage.channels[-1], stage.kernel, FACTOR)
        self.bias = SlimBias2d(stage.channels)

    def forward(self, images: Tensor, channels: int) -> Tensor:
        """images: (N, 3, H, W) -> (N, channels, H / 2, W / 2)."""
        return self.conv(images, channels, self.bias.first(channels))

    def plan(self, channels: int) -> list[Layer]:
        return [plain_conv(self.conv, self.bias, 3, channels, "none")]


class DenoiserBlock(Block):
    """Two 3x3 convolutions with biases and a shortcut around them; before both a gate, if any.

    The shortcut is a projection where the channels change or a gate chooses them. No activation
    follows the sum (as in EDSR, arXiv 1707.02921): what the stem saw comes to the head whole.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        self.gate = Gate(inputs[-1], routes, attends=False) if routes else None
        self.conv1 = SlimConv2d(inputs[-1], outputs[-1], stage.kernel, stride)
        self.bias1 = SlimBias2d(outputs)
        self.conv2 = SlimConv2d(outputs[-1], outputs[-1], stage.kernel)
        self.bias2 = SlimBias2d(outputs)
        with torch.no_grad():
            self.conv2.weight.mul_(QUIET)
        self.shortcut = None
        if routes or stride != 1 or inputs != outputs:
            self.shortcut = SlimConv2d(inputs[-1], outputs[-1], stride=stride)

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> (N, channels, H / stride, W / stride)."""
        y = self.conv1(x, channels, self.bias1.first(channels))
        y = F.relu(self.bias1.masked(y, mixture), inplace=True)
        if self.shortcut is not None:
            x = self.shortcut(x, channels)
        y = self.conv2(y, channels, self.bias2.first(channels)) + x
        return self.bias2.masked(y, mixture)

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        body = (
            plain_conv(self.conv1, self.bias1, inputs, outputs, "relu"),
            plain_conv(self.conv2, self.bias2, outputs, outputs, "none"),
        )
        shortcut: tuple[Layer, ...] = ()
        if self.shortcut is not None:
            shortcut = (plain_conv(self.shortcut, None, inputs, outputs, "none"),)
        return [Residual(body, shortcut, "none")]


class Residue(Head):
    """A 3x3 convolution and a pixel shuffle: what is to be added to the noisy picture."""

    factor: ClassVar[int] = FACTOR

    def __init__(self, inputs: tuple[int, ...], architecture: Architecture):
        super().__init__()
        self.conv = SlimConv2d(inputs[-1], 3 * FACTOR**2, 3)
        # What is not trained yet changes nothing.
        nn.init.zeros_(self.conv.weight)

    def forward(self, features: Tensor, images: Tensor, largest: bool) -> Tensor:
        """features: (N, c, H / 2, W / 2), images (N, 3, H, W) -> cleaned ones (N, 3, H, W)."""
        residue = F.pixel_shuffle(self.conv(features, 3 * FACTOR**2), FACTOR)
        return images + residue[:, :, : images.shape[2], : images.shape[3]]

    def shape(self, images: Shape) -> tuple[int, ...]:
        """As the image."""
        return (3, *images)

    def plan(self, channels: int) -> list[Layer]:
        """What is added, before it is cut to the image's size."""
        conv = plain_conv(self.conv, None, channels, 3 * FACTOR**2, "none")
        return [conv, PixelShuffle(FACTOR)]


def _architecture(name: str, channels: tuple[int, ...], blocks: int) -> Architecture:
    """The gate comes after the stem and one block, which is what every picture pays."""
    return Architecture(
        name=name,
        family="denoiser",
        stem=Stage((16,), stride=FACTOR, kernel=5),
        stages=(Stage((16,)), Stage(channels, blocks=blocks, gated=True)),
        num_classes=1,
        resolution=96,
    )


ARCHITECTURES = (
    _architecture("ds_denoiser_48", (12, 20, 32, 48), blocks=3),
    _architecture("ds_denoiser_64", (16, 26, 42, 64), blocks=6),
)
