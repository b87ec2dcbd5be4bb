"""DS-ResNet of bottlenecks, with the stride in the 3x3 convolution."""

import torch.nn.functional as F
from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.block import Stem
from dsnet.models.residual import ResidualBlock
from dsnet.nn.layers import SlimBatchNorm2d, SlimConv2d
from dsnet.nn.plan import Layer, MaxPool, plain_conv

EXPANSION = 4  # a block's outputs, in multiples of the channels its 3x3 convolution works on


class ResNetStem(Stem):
    """Convolution, BatchNorm, ReLU and, on large images, 3x3 max-pooling of stride 2."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__(stage, pool)
        self.pool = pool
        self.conv = SlimConv2d(3, stage.channels[-1], stage.kernel, stage.stride)
        self.bn = SlimBatchNorm2d(stage.channels)

    def forward(self, images: Tensor, channels: int) -> Tensor:
        """images: (N, 3, H, W) -> (N, channels, H', W')."""
        x = F.relu(self.bn(self.conv(images, channels)), inplace=True)
        return F.max_pool2d(x, 3, stride=2, padding=1) if self.pool else x

    def plan(self, channels: int) -> list[Layer]:
        conv = plain_conv(self.conv, self.bn, 3, channels, "relu")
        return [conv, MaxPool()] if self.pool else [conv]


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions with a shortcut around them."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        if any(channels % EXPANSION for channels in outputs):
            raise InputError(
                f"bottleneck channels must be multiples of {EXPANSION}, found {list(outputs)}"
            )
        hidden = tuple(channels // EXPANSION for channels in outputs)
        self._make_gate(inputs, routes)
        self.conv1 = SlimConv2d(inputs[-1], hidden[-1])
        self.bn1 = SlimBatchNorm2d(hidden)
        self.conv2 = SlimConv2d(hidden[-1], hidden[-1], stage.kernel, stride)
        self.bn2 = SlimBatchNorm2d(hidden)
        self.conv3 = SlimConv2d(hidden[-1], outputs[-1])
        self.bn3 = SlimBatchNorm2d(outputs)
        self._make_shortcut(inputs, outputs, stride, routes)

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> (N, channels, H / stride, W / stride)."""
        hidden = channels // EXPANSION
        y = F.relu(self.bn1(self.conv1(x, hidden), mixture), inplace=True)
        y = F.relu(self.bn2(self.conv2(y, hidden), mixture), inplace=True)
        y = self.bn3(self.conv3(y, channels), mixture)
        return self._joined(y, x, channels, mixture)

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        hidden = outputs // EXPANSION
        body = (
            plain_conv(self.conv1, self.bn1, inputs, hidden, "relu"),
            plain_conv(self.conv2, self.bn2, hidden, hidden, "relu"),
            plain_conv(self.conv3, self.bn3, hidden, outputs, "none"),
        )
        return self._joined_plan(body, inputs, outputs)


ARCHITECTURES = (
    # Ratios 0.25, 0.5, 0.75 and 1 of ResNet-50. Without gates it is Slimmable ResNet-50; gates may
    # be asked for in any stage.
    Architecture(
        name="ds_resnet50",
        family="resnet",
        stem=Stage((16, 32, 48, 64), stride=2, kernel=7),
        stages=(
            Stage((64, 128, 192, 256), blocks=3),
            Stage((128, 256, 384, 512), blocks=4, stride=2),
            Stage((256, 512, 768, 1024), blocks=6, stride=2),
            Stage((512, 1024, 1536, 2048), blocks=3, stride=2),
        ),
        stem_pool=True,
    ),
    Architecture(
        name="ds_resnet_cifar",
        family="resnet",
        stem=Stage((16, 24)),
        stages=(
            Stage((32, 48)),
            Stage((64, 96, 160), blocks=2, stride=2, gated=True),
            Stage((128, 192, 320), blocks=2, stride=2, gated=True),
        ),
        num_classes=10,
        resolution=32,
    ),
)
