"""What a family provides: a stem and a block.

Each says what it computes, and the plain layers that this comes to in eval mode: multiply-adds are
counted on those, and inference runs them.
"""

from abc import abstractmethod

from torch import Tensor, nn

from dsnet.models.architecture import Stage
from dsnet.nn.gate import Gate
from dsnet.nn.plan import Layer


class Stem(nn.Module):
    """The layers before the first stage."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor, channels: int) -> Tensor:
        """images: (N, 3, H, W) -> (N, channels, H', W')."""

    @abstractmethod
    def plan(self, channels: int) -> list[Layer]:
        """What `forward` computes in eval mode, as plain layers; the first is a `Conv`."""


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

    def before(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> the gate's input (N, i, H', W'); by default x itself."""
        return x

    @abstractmethod
    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: the gate's output (N, i, H', W') -> (N, channels, H'', W'')."""

    def plan_before(self, inputs: int) -> list[Layer]:
        """What `before` computes in eval mode on `inputs` channels, as plain layers."""
        return []

    @abstractmethod
    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        """What `after` computes in eval mode from `inputs` to `outputs` channels, likewise."""

    def forward(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        """x: (N, i, H, W) -> (N, channels, H'', W''), the gate's attention included."""
        x = self.before(x, mixture)
        if self.gate is not None:
            x, _ = self.gate(x)
        return self.after(x, channels, mixture)
