"""The double-headed gate: channel attention and the choice of width from one reduced feature."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.layers import global_average

REDUCTION = 0.25  # of the widest input, as in squeeze-and-excitation


class Gate(nn.Module):
    """Attention head and slimming head over a shared, pooled and reduced feature.

    channels: the widest input. routes: logits of the slimming head; 0 leaves attention alone.
    """

    def __init__(self, channels: int, routes: int = 0):
        super().__init__()
        reduced = _reduced(channels)
        self.reduce = nn.Linear(channels, reduced)
        self.expand = nn.Linear(reduced, channels)
        self.slimming = nn.Linear(reduced, routes, bias=False) if routes else None
        if self.slimming is not None:
            # Even odds for every width until stage II has learned something.
            nn.init.zeros_(self.slimming.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, c, H, W) -> x weighted by its attention, and the reduced feature (N, r)."""
        channels = x.shape[1]
        pooled = global_average(x)
        reduced = F.relu(F.linear(pooled, self.reduce.weight[:, :channels], self.reduce.bias))
        attention = torch.sigmoid(
            F.linear(reduced, self.expand.weight[:channels], self.expand.bias[:channels])
        )
        return x * attention[..., None, None], reduced

    def logits(self, reduced: Tensor) -> Tensor:
        """reduced: (N, r) -> (N, routes), one logit per routable width."""
        assert self.slimming is not None, "this gate has no slimming head"
        logits: Tensor = self.slimming(reduced)
        return logits

    def madds(self, channels: int, size: int) -> int:
        """Multiply-adds for one image: the pooling's input, then the attention head's two products.

        The slimming head is left out, as in the published counts.
        """
        return channels * size**2 + 2 * channels * self.reduce.out_features


def _reduced(channels: int) -> int:
    """Units of the shared feature, rounded as in the official code, whose weights must fit.

    To the nearest whole number, or one more where that would lose over a tenth.
    """
    exact = channels * REDUCTION
    nearest = max(1, int(exact + 0.5))
    return nearest + 1 if nearest < 0.9 * exact else nearest
