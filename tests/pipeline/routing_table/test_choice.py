"""Probabilities, choices and prices, against enumeration."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsnet.routing import (
    Paths,
    average_madds,
    price_for_average,
)

seeds = st.integers(0, 2**31 - 1)


def random_case(seed: int, routes: tuple[int, ...], n: int) -> tuple[list[torch.Tensor], Paths]:
    generator = torch.Generator().manual_seed(seed)
    paths = math.prod(routes)
    madds = torch.rand(paths, generator=generator).double().cumsum(0) + 0.5
    grid = (madds / madds.max()).reshape(routes)
    axes = range(len(routes))
    costs = [grid.mean([a for a in axes if a != g]) if len(routes) > 1 else grid for g in axes]
    logits = [
        torch.randn(n, math.prod(routes[:g]), routes[g], generator=generator) * 2 for g in axes
    ]
    return logits, Paths(routes, madds, tuple(cost.float() for cost in costs))


@given(seed=seeds, routes=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
def test_a_paths_probability_is_the_product_of_its_gates_softmaxes(
    seed: int, routes: tuple[int, ...]
) -> None:
    logits, paths = random_case(seed, routes, n=2)
    price = 1.5
    joint = paths.log_probabilities(logits, price).exp()
    torch.testing.assert_close(joint.sum(1), torch.ones(2))
    for row, (index, path) in itertools.product(
        range(2), enumerate(itertools.product(*map(range, routes)))
    ):
        expected, prefix = 1.0, 0
        for gate, entry in enumerate(path):
            odds = torch.exp(logits[gate][row, prefix] - price * paths.costs[gate])
            expected *= float(odds[entry] / odds.sum())
            prefix = prefix * routes[gate] + entry
        assert float(joint[row, index]) == pytest.approx(expected, rel=1e-4)


@given(seed=seeds, routes=st.integers(2, 5), n=st.integers(1, 8))
def test_with_one_gate_a_higher_price_never_costs_more(seed: int, routes: int, n: int) -> None:
    logits, paths = random_case(seed, (routes,), n)
    averages = [
        average_madds(paths, paths.choose(logits, price))
        for price in torch.linspace(-40, 40, 81).tolist()
    ]
    assert averages == sorted(averages, reverse=True)


@given(seed=seeds, routes=st.integers(2, 4), n=st.integers(1, 6), where=st.floats(0, 1))
def test_no_price_comes_closer_to_the_target(seed: int, routes: int, n: int, where: float) -> None:
    logits, paths = random_case(seed, (routes,), n)
    low, high = float(paths.madds.min()), float(paths.madds.max())
    target = low + where * (high - low)
    # Choices change only where two routes of a row are worth the same: try between all of those.
    (gate,), (cost,) = logits, paths.costs
    edges = sorted(
        float((row[i] - row[j]) / (cost[i] - cost[j]))
        for row in gate[:, 0]
        for i, j in itertools.combinations(range(routes), 2)
    )
    between = [(a + b) / 2 for a, b in itertools.pairwise(edges) if b - a > 1e-3]
    prices = [edges[0] - 1, *between, edges[-1] + 1]
    best = min(abs(average_madds(paths, paths.choose(logits, p)) - target) for p in prices)
    found = price_for_average(logits, paths, target)
    assert abs(average_madds(paths, paths.choose(logits, found)) - target) <= best + 1e-9


def test_the_price_lies_in_the_middle_of_its_step() -> None:
    # One image, two routes: dear above cheap by 3, costs 1/2 and 1, so it turns at a price of 6.
    # Another turns at 2: between them, one of the two is on the dear route.
    paths = Paths((2,), torch.tensor([50.0, 100.0]).double(), (torch.tensor([0.5, 1.0]),))
    logits = [torch.tensor([[[0.0, 3.0]], [[0.0, 1.0]]])]
    assert price_for_average(logits, paths, 75.0) == pytest.approx(4.0, abs=1e-4)


def test_both_ends_of_the_range_can_be_met() -> None:
    logits, paths = random_case(5, (4,), 20)
    for end in (float(paths.madds.min()), float(paths.madds.max())):
        price = price_for_average(logits, paths, end)
        assert average_madds(paths, paths.choose(logits, price)) == end


def test_with_two_gates_the_target_is_met_as_closely_as_one_image_allows() -> None:
    logits, paths = random_case(7, (3, 3), 400)
    low, high = float(paths.madds.min()), float(paths.madds.max())
    for where in (0.2, 0.5, 0.8):
        target = low + where * (high - low)
        price = price_for_average(logits, paths, target)
        average = average_madds(paths, paths.choose(logits, price))
        assert abs(average - target) <= (high - low) / 400


def test_a_price_at_an_end_of_the_range_has_room_for_images_unlike_these() -> None:
    paths = Paths((2,), torch.tensor([50.0, 100.0]).double(), (torch.tensor([0.5, 1.0]),))
    logits = [torch.tensor([[[0.0, 3.0]], [[0.0, 1.0]]])]
    assert price_for_average(logits, paths, 50.0) == pytest.approx(12.0, abs=1e-4)
    assert price_for_average(logits, paths, 100.0) == pytest.approx(0.0, abs=1e-4)
