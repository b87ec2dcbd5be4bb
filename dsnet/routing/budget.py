"""Budgets: a price on multiply-adds, calibrated on held-out images, that meets a wanted average.

A gate picks argmax(logits - price * cost), so the average multiply-adds fall as the price rises,
from the widest route for every image (a price far below zero) to the slimmest for every image.
The curve is measured once, stored with the model as (price, average) pairs, and read backwards.
"""

import bisect
import itertools
from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.metadata import Prices
from dsnet.models.network import DSNet
from dsnet.nn.gate import pick
from dsnet.routing.curve import price_at
from dsnet.routing.target import Target, parse_target

# Neighbours differ by about twice a POINTS-th of the range; between them it is nearly linear.
_POINTS = 257
_POINTS_IF_EACH_IS_A_PASS = 97
_CLOSEST = 1e-5  # prices nearer than this are one: the average jumps between them
_FARTHEST = 2.0**20


def price_for(model: DSNet, budget: Target | float | str) -> float:
    """The price at which the images that the model was calibrated on average to `budget`.

    budget: as `dsnet.routing.target.parse_target` reads it: 0.5 (of the widest routable
    sub-network's multiply-adds), "200M". Raises InputError for a budget out of the routing space's
    range, which it names, and for a model without calibrated prices.
    """
    target = parse_target(budget)
    madds = target.madds([model.madds(route) for route in model.space.routes])
    prices = model.metadata.prices
    if not prices:
        raise InputError(f"budget {target}: {_why_no_prices(model)}")
    return price_at(prices, madds)


def average_of(model: DSNet) -> float | None:
    """Average multiply-adds per image that `model` spends where nobody asks for a budget.

    On the images that it was calibrated on; of the widest route, where its gates are not trained.
    None without gates, and where trained gates have no calibrated prices to tell it.
    """
    prices, price = model.metadata.prices, model.metadata.price
    if not model.architecture.gates:
        return None
    if not prices:
        return None if model.gates_trained else float(model.madds(model.space.routes[-1]))
    index = bisect.bisect_left([each for each, _ in prices], price)
    if index in (0, len(prices)):
        return prices[min(index, len(prices) - 1)][1]
    (before, above), (after, below) = prices[index - 1], prices[index]
    return above + (price - before) / (after - before) * (below - above)


def _why_no_prices(model: DSNet) -> str:
    if not model.architecture.gates:
        return f"{model.architecture.name} has no gate, so nothing in it could spend less"
    if not model.gates_trained:
        return (
            "the gates of this model are not trained (it is a supernet), so nothing in it could "
            "meet a budget; train them with dsnet run, or ask for one width"
        )
    return (
        "this model has no calibrated prices, run dsnet.routing.budget.calibrate_prices on "
        "held-out images first"
    )


def gate_logits(model: DSNet, images: Tensor) -> Tensor:
    """images: normalised float (N, 3, H, W) -> the first gate's logits, float (N, routes)."""
    reduced = model.segment(0, images, model.space[0])[1]
    if reduced is None:
        raise InputError(f"{model.architecture.name} has no gate to calibrate")
    return model.gates[0].logits(reduced)


def prices_from_logits(model: DSNet, logits: Tensor) -> Prices:
    """The curve of a network with one gate, from the gate's logits (N, routes) of held-out images.

    What workers gathered can be calibrated in one place. Raises InputError for a network with
    several gates or looks, where later logits depend on earlier choices: use `calibrate_prices`.
    """
    if len(model.architecture.gates) != 1 or model.looks is not None or not logits.numel():
        raise InputError(
            "prices_from_logits expects one gate without looks and at least one image, found "
            f"{len(model.architecture.gates)} gates, {len(model.looks or ())} looks and logits of "
            f"shape {tuple(logits.shape)}"
        )
    madds = _route_madds(model, logits.device)
    (cost,) = model.gate_costs(logits.device)

    def average(price: float) -> float:
        return float(madds[pick(logits - price * cost)].mean())

    return price_curve(average, float(madds.min()), float(madds.max()))


@torch.no_grad()
def calibrate_prices(model: DSNet, batches: Collection[Tensor]) -> Prices:
    """The curve of `model`, in eval mode, on `batches`: normalised images, float (N, 3, H, W).

    One pass with one gate. With several, or with looks, one routed pass for each point of the
    curve, so `batches` is read many times over. Store the result with
    `model.metadata = dataclasses.replace(model.metadata, prices=...)`.
    """
    if not batches:
        raise InputError("calibrate_prices needs at least one batch of held-out images")
    if len(model.architecture.gates) <= 1 and model.looks is None:
        return prices_from_logits(model, torch.cat([gate_logits(model, x) for x in batches]))

    def average(price: float) -> float:
        return float(_mean(model.routed_madds(x, price).double() for x in batches))

    routable = _route_madds(model)
    low, high = float(routable.min()), float(routable.max())
    return price_curve(average, low, high, _POINTS_IF_EACH_IS_A_PASS)


def price_curve(
    average: Callable[[float], float], low: float, high: float, points: int = _POINTS
) -> Prices:
    """Sample `average`, which falls from `high` to `low` as the price rises: (price, average).

    Most densely where it falls fastest.
    """
    if low == high:
        return ((0.0, low),)
    samples = {
        price: average(price) for price in (_outermost(average, high, -1), _outermost(average, low))
    }
    # Halve the widest gap of averages, again and again: prices are dense where the curve is steep,
    # as it is where many images are about to change their route.
    while len(samples) < points:
        prices = sorted(samples)
        gap, left, right = max(
            (
                samples[left] - samples[right] if right - left > _CLOSEST else 0.0,
                left,
                right,
            )
            for left, right in itertools.pairwise(prices)
        )
        if gap <= 0:
            break
        middle = (left + right) / 2
        samples[middle] = average(middle)
    prices = sorted(samples)
    # Several gates may rise a little on the way: a later gate sees what an earlier one chose.
    averages = itertools.accumulate((samples[price] for price in prices), min)
    return tuple(zip(prices, averages, strict=True))


def _route_madds(model: DSNet, device: torch.device | None = None) -> Tensor:
    counts = [float(model.madds(route)) for route in model.space.routes]
    return torch.tensor(counts, dtype=torch.float64, device=device)


def _mean(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(parts)).mean()


def _outermost(average: Callable[[float], float], end: float, sign: int = 1) -> float:
    """A price beyond which every image takes the route at this end of the range.

    Twice what the calibration images need, for images unlike them.
    """
    price = 1.0
    while average(sign * price) != end and price < _FARTHEST:
        price *= 2
    return sign * price * 2
