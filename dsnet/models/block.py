"""What a family provides: a stem and a block, each with its multiply-adds in closed form."""

from abc import abstractmethod

from torch import Tensor, nn

from dsnet.models.architecture import Stage
from dsnet.nn.gate import Gate


class Stem(nn.Module):
    """The layers before the first stage."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor, channels: int) -> Tensor:
        """images: (N, 3, H, W) -> (N, channels, H', W')."""

    @abstractmethod
    def madds(self, channels: int, size: int) -> tuple[int, int]:
        """(multiply-adds for one image of size x size pixels, size of what comes out)."""


class Block(nn.Module):
    """Two halves with a gate between them, or none.

    inputs, outputs: the channels of every width, slimmest first. routes: logits of the gate's
    slimming head, 0 for no slimming head. `before` runs at the width that came in, `after` at the
    one that is asked for, so a choice made by the gate sets everything from `after` on.

    `mixture` (N, widths) replaces slicing by masking: see `SlimBatchNorm2d.forward`.
    """

    gate: Gate | None

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__()

    @abstractmethod
    def before(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> the gate's input (N, i, H', W')."""

    @abstractmethod
    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: the gate's output (N, i, H', W') -> (N, channels, H'', W'')."""

    @abstractmethod
    def madds(self, in_channels: int, out_channels: int, size: int) -> tuple[int, int]:
        """(multiply-adds for one image with an input of size x size, size of what comes out)."""

    def forward(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> (N, channels, H'', W''), the gate's attention included."""
        x = self.before(x, mixture)
        if self.gate is not None:
            x, _ = self.gate(x)
        return self.after(x, channels, mixture)
