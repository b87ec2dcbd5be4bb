"""What may follow a tail, where a network looks again, and what it costs."""

from collections.abc import Sequence

import torch
from torch import Tensor

NEVER = -1e9
"""The logit of what cannot be chosen: finite, for a gradient through it to be a number."""


def forbid(logits: Tensor, route: int) -> Tensor:
    """logits (N, routes) of the look after `route`, with `NEVER` for what may not follow it.

    Itself may, which is to stop there, and what is wider.
    """
    if not route:
        return logits
    blocked = torch.arange(logits.shape[1], device=logits.device) < route
    return logits.masked_fill(blocked, NEVER)


def going_on_costs(
    tails: Sequence[float], widest: float, device: torch.device | None = None
) -> Tensor:
    """What each look's choices cost, as fractions of `widest`: float (routes, routes).

    tails: multiply-adds of each. Row r: after the tail of route r nothing to stop there, in column
    r, and for each other route its tail.
    """
    shares = torch.tensor([tail / widest for tail in tails], device=device)
    return shares.repeat(len(tails), 1).fill_diagonal_(0)
