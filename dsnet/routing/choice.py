"""What a choice of paths on a routing table comes to, and the price that leads to an average."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnet.routing.table import Paths, RoutingTable

_STEPS = 20  # halvings of the bracket, to a millionth of it
_FARTHEST = 2.0**20


@dataclass(frozen=True)
class Outcome:
    """What a choice of paths comes to, over a table."""

    madds: float
    """Average multiply-adds per image."""
    loss: float
    """Mean loss."""
    measures: dict[str, float]
    """By name, the mean of what the task measures."""
    shares: tuple[float, ...]
    """Share of the images that each route answers."""


def outcome(table: RoutingTable, path: Tensor) -> Outcome:
    """What taking path[n] for row n comes to; path: int64 (N,)."""

    def mean(values: Tensor) -> float:
        return float(values.gather(1, path[:, None]).double().mean())

    ends = table.paths.ends(path)
    shares = torch.bincount(ends, minlength=math.prod(table.paths.routes)).double() / len(path)
    return Outcome(
        madds=average_madds(table.paths, path),
        loss=mean(table.losses),
        measures={name: mean(values) for name, values in table.measures.items()},
        shares=tuple(shares.tolist()),
    )


def average_madds(paths: Paths, path: Tensor) -> float:
    """Average multiply-adds per image of path: int64 (N,). Exact in counts."""
    counts = torch.bincount(path, minlength=len(paths)).double()
    return float(counts @ paths.madds / len(path))


def price_for_average(logits: Sequence[Tensor], paths: Paths, target: float) -> float:
    """The price whose choices average closest to `target` multiply-adds.

    Averages fall in steps, one for each image that changes its path; the price is taken from the
    middle of its step, so that rounding on another machine does not push an image over the edge.
    With several gates the average may rise a little on its way down, and this finds one crossing.
    """

    def average(price: float) -> float:
        return average_madds(paths, paths.choose(logits, price))

    low, high = _edge(lambda price: average(price) <= target)
    candidates = [_middle(average, price) for price in (low, high) if math.isfinite(price)]
    return min(candidates, key=lambda price: abs(average(price) - target))


def _edge(reached: Callable[[float], bool]) -> tuple[float, float]:
    """Two prices next to each other, of which only the upper one has reached what is asked.

    One of them is infinite if every price, or none, has.
    """
    low, high = -1.0, 1.0
    while reached(low):
        low *= 2
        if low < -_FARTHEST:
            return -math.inf, low
    while not reached(high):
        high *= 2
        if high > _FARTHEST:
            return high, math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return low, high


def _middle(average: Callable[[float], float], price: float) -> float:
    """The middle of the step that `price` lies on; well inside one that has no end."""
    here = average(price)
    left = _edge(lambda p: average(p) <= here)[1]
    right = _edge(lambda p: average(p) < here)[0]
    if abs(left) > _FARTHEST:
        return right - max(1.0, abs(right))
    if abs(right) > _FARTHEST:
        return left + max(1.0, abs(left))
    return (left + right) / 2
