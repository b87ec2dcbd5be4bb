"""A family's head: from the last block's features to the network's outputs."""

from abc import abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.models.architecture import Architecture
from dsnet.nn.layers import Shape, SlimLinear, global_average
from dsnet.nn.plan import GlobalAverage, Layer, plain_linear


class Head(nn.Module):
    """Made as `head(inputs, architecture)`; inputs: channels of every width, slimmest first.

    place: the name under which a network keeps its weights. factor: 0, or where outputs are
    pictures as large as the images, of any size, by how much its `PixelShuffle` enlarges: what
    `plan` gives is cut to the image's size and added to it.
    """

    place: ClassVar[str] = "output"
    factor: ClassVar[int] = 0

    @abstractmethod
    def forward(self, features: Tensor, images: Tensor, largest: bool) -> Tensor:
        """features: (N, c, H', W') of the network's inputs, images (N, 3, H, W) -> outputs (N, …).

        largest: whether the network runs at its largest width.
        """

    @abstractmethod
    def shape(self, images: Shape) -> tuple[int, ...]:
        """Shape of the output for one image of this height and width."""

    @abstractmethod
    def plan(self, channels: int) -> list[Layer]:
        """What `forward` computes of features in eval mode, as plain layers."""


class PooledLinear(SlimLinear, Head):
    """Global average pooling and a linear layer: logits (N, num_classes).

    Dropout in between, at the largest width only.
    """

    place = "classifier"

    def __init__(self, inputs: tuple[int, ...], architecture: Architecture):
        super().__init__(inputs[-1], architecture.num_classes)
        self.dropout = architecture.dropout
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor, images: Tensor, largest: bool) -> Tensor:  # type: ignore[override]
        """features: (N, c, H', W') -> logits (N, num_classes)."""
        pooled = global_average(features)
        if largest:
            pooled = F.dropout(pooled, self.dropout, self.training)
        return super().forward(pooled)

    def shape(self, images: Shape) -> tuple[int, ...]:
        """(num_classes,), whatever the size of the images."""
        return (self.out_features,)

    def plan(self, channels: int) -> list[Layer]:
        linear = plain_linear(self.weight, self.bias, (self.out_features, channels))
        return [GlobalAverage(), linear]
