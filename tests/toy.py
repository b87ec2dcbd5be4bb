"""Families and a task of one's own, known to no file of dsnet.

ds_toy classifies; ds_toy_smoothing answers with the picture smoothed, and knows nothing of labels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet.models.architecture import Architecture, Stage
from dsnet.models.block import Block, Stem
from dsnet.models.head import Head
from dsnet.models.registry import ARCHITECTURES, FAMILIES, Family, register
from dsnet.nn.gate import Gate
from dsnet.nn.layers import Shape, SlimBatchNorm2d, SlimConv2d
from dsnet.nn.plan import Layer, plain_conv
from dsnet.tasks.base import Measured, Task
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import TASKS


class ToyStem(Stem):
    """3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__(stage, pool)
        self.conv = SlimConv2d(3, stage.channels[-1], stage.kernel, stage.stride)
        self.bn = SlimBatchNorm2d(stage.channels)

    def forward(self, images: Tensor, channels: int) -> Tensor:
        return F.relu(self.bn(self.conv(images, channels)))

    def plan(self, channels: int) -> list[Layer]:
        return [plain_conv(self.conv, self.bn, 3, channels, "relu")]


class ToyBlock(Block):
    """Dense 3x3 convolution, gate, dense 3x3 convolution."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        self.first = SlimConv2d(inputs[-1], inputs[-1], stage.kernel, stride)
        self.bn1 = SlimBatchNorm2d(inputs)
        self.gate = Gate(inputs[-1], routes)
        self.second = SlimConv2d(inputs[-1], outputs[-1], stage.kernel)
        self.bn2 = SlimBatchNorm2d(outputs)

    def before(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        return F.relu(self.bn1(self.first(x, x.shape[1]), mixture))

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        return F.relu(self.bn2(self.second(x, channels), mixture))

    def plan_before(self, inputs: int) -> list[Layer]:
        return [plain_conv(self.first, self.bn1, inputs, inputs, "relu")]

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        return [plain_conv(self.second, self.bn2, inputs, outputs, "relu")]


class ToyHead(Head):
    """Dense 3x3 convolution to three channels."""

    def __init__(self, inputs: tuple[int, ...], architecture: Architecture):
        super().__init__()
        self.conv = SlimConv2d(inputs[-1], 3, 3)
        torch.nn.init.zeros_(self.conv.weight)

    def forward(self, features: Tensor, images: Tensor, largest: bool) -> Tensor:
        return self.conv(features, 3)

    def shape(self, images: Shape) -> tuple[int, ...]:
        return (3, *images)

    def plan(self, channels: int) -> list[Layer]:
        return [plain_conv(self.conv, None, channels, 3, "none")]


class Smoothing(Task):
    """Outputs and targets are pictures, (N, 3, H, W)."""

    name = "smoothing"
    measures = (Measure("psnr", "PSNR", unit="dB"), Measure("mae", "mean error", rises=False))

    def pair(self, images: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return images, F.avg_pool2d(images, 3, 1, 1)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        return (outputs.float() - targets).square().mean((1, 2, 3))

    def soften(self, outputs: Tensor) -> Tensor:
        return outputs.detach().float()

    def distill(self, outputs: Tensor, soft: Tensor) -> Tensor:
        return self.loss(outputs, soft)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "psnr": -10 * self.loss(outputs, targets).log10(),
            "mae": (outputs.float() - targets).abs().mean((1, 2, 3)),
        }

    def easy(self, slim: Measured, wide: Callable[[], Measured]) -> Tensor:
        return slim["psnr"] >= wide()["psnr"] - 0.5

    def hopeless(self, wide: Measured) -> Tensor:
        return torch.zeros_like(wide["psnr"], dtype=torch.bool)


TOY = Architecture(
    name="ds_toy",
    family="toy",
    stem=Stage((8, 12)),
    stages=(Stage((8, 12), stride=2), Stage((4, 8, 16), stride=2, gated=True), Stage((6, 8, 12))),
    num_classes=5,
    resolution=16,
)
TOY_SMOOTHING = Architecture(
    name="ds_toy_smoothing",
    family="toy_smoothing",
    stem=Stage((8, 16)),
    stages=(Stage((8, 24)), Stage((8, 16, 32), gated=True), Stage((8, 16, 32))),
    resolution=8,
)
SMOOTHING = Smoothing()
TOY_FAMILIES = {
    "toy": (Family(ToyStem, ToyBlock), TOY),
    "toy_smoothing": (Family(ToyStem, ToyBlock, ToyHead, SMOOTHING), TOY_SMOOTHING),
}


@contextmanager
def registries_kept() -> Iterator[None]:
    """What is registered meanwhile is forgotten afterwards."""
    registries: tuple[dict[str, Any], ...] = (FAMILIES, ARCHITECTURES, TASKS)
    before = [dict(registry) for registry in registries]
    try:
        yield
    finally:
        for registry, kept in zip(registries, before, strict=True):
            registry.clear()
            registry.update(kept)


@contextmanager
def toys_known() -> Iterator[None]:
    """While their families are registered."""
    with registries_kept():
        for name, (family, architecture) in TOY_FAMILIES.items():
            register(name, family, [architecture])
        yield
