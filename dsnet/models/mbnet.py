"""DS-MBNet: MobileNetV1's layout with squeeze-and-excitation in every separable block."""

from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.block import Block, Stem
from dsnet.nn.gate import Gate
from dsnet.nn.layers import (
    SlimBatchNorm2d,
    SlimConv2d,
    SlimDepthwiseConv2d,
    silu,
)
from dsnet.nn.plan import Layer, plain_conv


class MBNetStem(Stem):
    """3x3 convolution, BatchNorm, SiLU."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__(stage, pool)
        if pool:
            raise InputError("stem_pool must be false for DS-MBNet, whose stem has no pooling")
        self.conv = SlimConv2d(3, stage.channels[-1], stage.kernel, stage.stride)
        self.bn = SlimBatchNorm2d(stage.channels)

    def forward(self, images: Tensor, channels: int) -> Tensor:
        """images: (N, 3, H, W) -> (N, channels, H / stride, W / stride)."""
        return silu(self.bn(self.conv(images, channels)))

    def plan(self, channels: int) -> list[Layer]:
        return [plain_conv(self.conv, self.bn, 3, channels, "silu")]


class SeparableBlock(Block):
    """Depthwise convolution, gate, pointwise convolution; no skip connection."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        self.depthwise = SlimDepthwiseConv2d(inputs[-1], stage.kernel, stride)
        self.bn1 = SlimBatchNorm2d(inputs)
        self.gate: Gate = Gate(inputs[-1], routes)
        self.pointwise = SlimConv2d(inputs[-1], outputs[-1])
        self.bn2 = SlimBatchNorm2d(outputs)

    def before(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> the gate's input, (N, i, H / stride, W / stride)."""
        return silu(self.bn1(self.depthwise(x), mixture))

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: the gate's output (N, i, H, W) -> (N, channels, H, W)."""
        return silu(self.bn2(self.pointwise(x, channels), mixture))

    def plan_before(self, inputs: int) -> list[Layer]:
        return [plain_conv(self.depthwise, self.bn1, inputs, inputs, "silu")]

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        return [plain_conv(self.pointwise, self.bn2, inputs, outputs, "silu")]


def _ds_mbnet(name: str, stage3: range, stage4: range) -> Architecture:
    return Architecture(
        name=name,
        family="mbnet",
        stem=Stage((16, 24), stride=2),
        stages=(
            Stage((32, 88)),
            Stage((48, 168), blocks=2, stride=2),
            Stage((96, 264), blocks=2, stride=2),
            Stage(tuple(stage3), blocks=6, stride=2, gated=True),
            Stage(tuple(stage4), blocks=2, stride=2),
        ),
        dropout=0.2,
    )


ARCHITECTURES = (
    # Stage 3 from ratio 0.35 to 1.0 in steps of 0.05: the official network.
    _ds_mbnet("ds_mbnet", range(224, 641, 32), range(736, 1153, 32)),
    # And on to ratio 1.25, as the paper's text has it.
    _ds_mbnet("ds_mbnet_wide", range(224, 801, 32), range(736, 1313, 32)),
    # 32x32 pixels, small enough for two CPU cores to train. The gate sits at 4x4, where features
    # have seen the whole image. Further back it would know more, and have less to choose: see
    # docs/sweeps.md.
    Architecture(
        name="ds_mbnet_cifar",
        family="mbnet",
        stem=Stage((16, 24)),
        stages=(
            Stage((32, 40)),
            Stage((48, 64), blocks=2, stride=2),
            Stage((96, 128), blocks=2, stride=2),
            Stage((16, 48, 112, 288), blocks=4, stride=2, gated=True),
            Stage((32, 112, 224, 448), blocks=2),
        ),
        num_classes=10,
        dropout=0.1,
        resolution=32,
    ),
    Architecture(
        name="ds_mbnet_digits",
        family="mbnet",
        stem=Stage((8, 16)),
        stages=(
            Stage((12, 24)),
            Stage((16, 32)),
            Stage((24, 48), stride=2),
            Stage((16, 48, 96, 144), blocks=2, stride=2, gated=True),
            Stage((24, 72, 136, 192)),
        ),
        num_classes=10,
        resolution=8,
    ),
)
