"""The double-headed gate: channel attention and the choice of width from one reduced feature."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsnet.nn.layers import global_average
from dsnet.nn.look import NEVER

REDUCTION = 0.25  # of the widest input, as in squeeze-and-excitation
MOMENTS = 2  # of each channel, that a gate without attention sees
TINY = 1e-8  # added to a mean square: its root has a slope where a channel is nothing


class Gate(nn.Module):
    """Attention head and slimming head over a shared, pooled and reduced feature.

    channels: the widest input. routes: logits of the slimming head; 0 leaves attention alone.
    attends: without, there is a slimming head alone, over `moments`, and x goes on as it came: what
        a pixel becomes depends on none that is far from it.
    """

    def __init__(self, channels: int, routes: int = 0, attends: bool = True):
        super().__init__()
        self.features = _reduced(channels) if attends else MOMENTS * channels
        self.reduce = nn.Linear(channels, self.features) if attends else None
        self.expand = nn.Linear(self.features, channels) if attends else None
        self.slimming = make_head(self.features, routes) if routes else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, c, H, W) -> x weighted by its attention, and the reduced feature (N, r)."""
        if self.reduce is None or self.expand is None:
            return x, moments(x, self.features)
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


def moments(x: Tensor, features: int) -> Tensor:
    """Mean and root mean square of each channel, side by side: (N, c, H, W) -> (N, features).

    Zeros fill up what a slim x lacks. Where channels have a sign, noise is nothing on average: what
    tells it from a smooth picture is how far they are from nothing.
    """
    squares = (global_average(x * x) + TINY).sqrt()
    both = torch.stack([global_average(x), squares], 2).flatten(1)
    return F.pad(both, (0, features - both.shape[1]))


def pick(scores: Tensor) -> Tensor:
    """scores: (N, routes) -> int64 (N,): the route of the highest score, of equals the widest.

    So a head that was never trained, all of whose logits are 0, picks the widest.
    """
    # argmax names the first of equals.
    return scores.shape[-1] - 1 - scores.flip(-1).argmax(-1)


def is_trained(head: nn.Module) -> bool:
    """Whether a slimming head tells routes apart: `make_head` leaves its last layer at zero."""
    *_, last = head.parameters()
    return bool(last.any())


def make_head(
    reduced: int, routes: int, hidden: int = 0, generator: torch.Generator | None = None
) -> nn.Module:
    """A slimming head, reduced feature (N, reduced) -> logits (N, routes): even odds until trained.

    hidden: 0 for the paper's linear head without bias; else the units of a hidden layer with ReLU.
    """
    last = nn.Linear(hidden or reduced, routes, bias=False)
    nn.init.zeros_(last.weight)
    if not hidden:
        return last
    first = nn.Linear(reduced, hidden)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def make_constant(reduced: int, routes: int, route: int) -> nn.Module:
    """A slimming head that picks `route` whatever it sees, at any price; nothing in it learns."""
    head = nn.Linear(reduced, routes).requires_grad_(False)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, NEVER)
    head.bias[route] = 0.0
    return head


def head_from(state: Mapping[str, Tensor]) -> nn.Module:
    """The slimming head that has this state dict; its shapes say which kind it is.

    Raises KeyError or RuntimeError for the state of anything else.
    """
    if "weight" in state:
        routes, reduced = state["weight"].shape
        # Only a head that always picks the same has a bias and no hidden layer.
        head = nn.Linear(reduced, routes) if "bias" in state else make_head(reduced, routes)
    else:
        (hidden, reduced), routes = state["0.weight"].shape, state["2.weight"].shape[0]
        head = make_head(reduced, routes, hidden)
    head.load_state_dict(state)
    return head


def heads_to_tensors(heads: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Every weight of slimming heads, by head and name: `0.weight`. Copies, on the CPU."""
    return {
        f"{number}.{name}": value.cpu().clone(memory_format=torch.contiguous_format)
        for number, head in enumerate(heads)
        for name, value in head.state_dict().items()
    }


def heads_from_tensors(tensors: Mapping[str, Tensor]) -> tuple[nn.Module, ...]:
    """The inverse of `heads_to_tensors`. Raises ValueError for other names, else as `head_from`."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, parameter = name.split(".", 1)
        states.setdefault(int(number), {})[parameter] = tensor
    return tuple(head_from(state) for _, state in sorted(states.items()))


def _reduced(channels: int) -> int:
    """Units of the shared feature, rounded as in the official code, whose weights must fit.

    To the nearest whole number, or one more where that would lose over a tenth.
    """
    exact = channels * REDUCTION
    nearest = max(1, int(exact + 0.5))
    return nearest + 1 if nearest < 0.9 * exact else nearest
