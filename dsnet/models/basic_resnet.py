"""DS-ResNet of basic blocks, two 3x3 convolutions each: the ResNet of small pictures."""

import torch.nn.functional as F
from torch import Tensor

from dsnet.models.architecture import Architecture, Stage
from dsnet.models.residual import ResidualBlock
from dsnet.nn.layers import SlimBatchNorm2d, SlimConv2d
from dsnet.nn.plan import Layer, plain_conv


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        self._make_gate(inputs, routes)
        self.conv1 = SlimConv2d(inputs[-1], outputs[-1], stage.kernel, stride)
        self.bn1 = SlimBatchNorm2d(outputs)
        self.conv2 = SlimConv2d(outputs[-1], outputs[-1], stage.kernel)
        self.bn2 = SlimBatchNorm2d(outputs)
        self._make_shortcut(inputs, outputs, stride, routes)

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> (N, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x, channels), mixture), inplace=True)
        y = self.bn2(self.conv2(y, channels), mixture)
        return self._joined(y, x, channels, mixture)

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        body = (
            plain_conv(self.conv1, self.bn1, inputs, outputs, "relu"),
            plain_conv(self.conv2, self.bn2, outputs, outputs, "none"),
        )
        return self._joined_plan(body, inputs, outputs)


def _resnet8(name: str, resolution: int, stem_stride: int = 1) -> Architecture:
    return Architecture(
        name=name,
        family="basic_resnet",
        stem=Stage((24, 32), stride=stem_stride),
        stages=(
            Stage((24, 32)),
            Stage((16, 32, 48, 64), stride=2, gated=True),
            Stage((32, 64, 96, 128), stride=2),
        ),
        num_classes=10,
        resolution=resolution,
    )


ARCHITECTURES = (
    # 32x32 pixels. The gate comes early: what every image runs is a stem and one slim block, so
    # that the slimmest path costs a ninth of the widest.
    Architecture(
        name="ds_resnet12_cifar",
        family="basic_resnet",
        stem=Stage((12, 16)),
        stages=(
            Stage((12, 16)),
            Stage((16, 32, 48, 64), blocks=2, stride=2, gated=True),
            Stage((32, 64, 96, 128), blocks=2, stride=2),
        ),
        num_classes=10,
        resolution=32,
    ),
    # Half of its blocks, for trainings of minutes: what every image runs has more channels, and the
    # widest path costs three quarters of the other's.
    _resnet8("ds_resnet8_cifar", 32),
    # The same for photographs of 64x64 pixels, whose side the stem halves.
    _resnet8("ds_resnet8_photos", 64, stem_stride=2),
    # 28x28 pixels in grey, of which less computing makes as much.
    Architecture(
        name="ds_resnet12_mnist",
        family="basic_resnet",
        stem=Stage((8, 16)),
        stages=(
            Stage((8, 16), stride=2),
            Stage((4, 16, 24, 32), blocks=2, gated=True),
            Stage((8, 28, 44, 64), blocks=2, stride=2),
        ),
        num_classes=10,
        resolution=28,
    ),
)
