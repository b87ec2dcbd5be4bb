"""What may follow a tail, where a network looks again."""

import torch
from torch import Tensor

NEVER = -1e9
"""The logit of what cannot be chosen: finite, for a gradient through it to be a number."""


def allowed(routes: int, device: torch.device | None = None) -> Tensor:
    """What may follow the tail of each route: bool (routes, routes).

    Itself, which is to stop there, or a wider one.
    """
    return torch.ones(routes, routes, dtype=torch.bool, device=device).triu()


def forbid(logits: Tensor, route: int) -> Tensor:
    """logits (N, routes) of the look after `route`, with `NEVER` for what may not follow it."""
    if not route:
        return logits
    blocked = torch.arange(logits.shape[1], device=logits.device) < route
    return logits.masked_fill(blocked, NEVER)
