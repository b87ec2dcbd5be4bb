"""What blocks with a shortcut have in common; the convolutions are their own."""

import torch.nn.functional as F
from torch import Tensor

from dsnet.models.block import Block
from dsnet.nn.gate import Gate
from dsnet.nn.layers import SlimBatchNorm2d, SlimConv2d
from dsnet.nn.plan import Conv, Layer, Residual, plain_conv


class ResidualBlock(Block):
    """Convolutions with a shortcut around them; a gate, where there is one, before both.

    The gate's attention weighs what the convolutions and the shortcut see, and its choice is the
    width of what they give, so the shortcut of a gated block is a projection always. Blocks that
    choose nothing have no attention either: a network without gates is a slimmable ResNet.
    """

    projection: SlimConv2d | None

    def _make_gate(self, inputs: tuple[int, ...], routes: int) -> None:
        self.gate = Gate(inputs[-1], routes) if routes else None

    def _make_shortcut(
        self, inputs: tuple[int, ...], outputs: tuple[int, ...], stride: int, routes: int
    ) -> None:
        self.projection = None
        if routes or stride != 1 or inputs != outputs:
            self.projection = SlimConv2d(inputs[-1], outputs[-1], stride=stride)
            self.projection_bn = SlimBatchNorm2d(outputs)

    def _joined(self, y: Tensor, x: Tensor, channels: int, mixture: Tensor | None) -> Tensor:
        """What the convolutions gave, and the shortcut from the block's input x."""
        if self.projection is not None:
            x = self.projection_bn(self.projection(x, channels), mixture)
        return F.relu(y + x, inplace=True)

    def _joined_plan(self, body: tuple[Conv, ...], inputs: int, outputs: int) -> list[Layer]:
        shortcut: tuple[Layer, ...] = ()
        if self.projection is not None:
            projection = plain_conv(self.projection, self.projection_bn, inputs, outputs, "none")
            shortcut = (projection,)
        return [Residual(body, shortcut, "relu")]
