"""The oracle is the best of all choices, by enumeration of all choices."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsnet.routing import frontier, oracle_errors, oracle_losses, random_errors

from .conftest import make_table

seeds = st.integers(0, 2**31 - 1)


def all_choices(values: np.ndarray, madds: np.ndarray) -> list[tuple[float, float]]:
    """(average multiply-adds, mean value) of every way to give each row a path."""
    rows = range(len(values))
    return [
        (float(np.mean(madds[list(choice)])), float(np.mean([values[r, choice[r]] for r in rows])))
        for choice in itertools.product(range(len(madds)), repeat=len(values))
    ]


def lower_hull_at(points: list[tuple[float, float]], budget: float) -> float:
    """The least value of any mixture of two points that averages at most `budget`."""
    best = min(value for madds, value in points if madds <= budget)
    for (a, u), (b, v) in itertools.product(points, repeat=2):
        if a <= budget < b:
            best = min(best, u + (v - u) * (budget - a) / (b - a))
    return best


@given(seed=seeds, n=st.integers(1, 3), paths=st.integers(1, 4), where=st.floats(0, 1))
def test_the_frontier_is_the_lower_hull_of_all_choices(
    seed: int, n: int, paths: int, where: float
) -> None:
    rng = np.random.default_rng(seed)
    values, madds = rng.integers(0, 6, (n, paths)) / 4, rng.integers(1, 9, paths) / 2
    line = frontier(values, madds)
    points = all_choices(values, madds)
    budget = madds.min() + where * (madds.max() - madds.min())
    assert line.at(budget) == pytest.approx(lower_hull_at(points, budget), abs=1e-9)
    assert (np.diff(line.madds) > 0).all() and (np.diff(line.values) < 0).all()


@given(seed=seeds, n=st.integers(1, 4), paths=st.integers(1, 4))
def test_every_point_of_the_accuracy_oracle_is_reached_by_whole_images(
    seed: int, n: int, paths: int
) -> None:
    rng = np.random.default_rng(seed)
    wrong = rng.integers(0, 2, (n, paths)).astype(float)
    madds = np.cumsum(rng.integers(1, 5, paths)).astype(float)
    line = oracle_errors(make_table(wrong * 2, madds.tolist()))
    points = all_choices(wrong, madds)
    for budget, value in zip(line.madds, line.values, strict=True):
        best = min(v for m, v in points if m <= budget + 1e-9)
        assert value == pytest.approx(best, abs=1e-9)


def test_the_accuracy_oracle_pays_the_least_upgrades_first() -> None:
    # Right at once; right at path 1 (+2); right at path 2 (+6); never right.
    table = make_table([[0, 0, 0], [2, 0, 0], [2, 2, 0], [2, 2, 2]], [4, 6, 10])
    line = oracle_errors(table)
    assert line.madds.tolist() == [4.0, 4.5, 6.0]
    assert line.values.tolist() == [0.75, 0.5, 0.25]
    assert line.at(5.25) == pytest.approx(0.375)
    assert line.at(100) == 0.25
    assert np.isnan(line.at(3.9))


def test_the_loss_oracle_takes_what_brings_most_per_multiply_add() -> None:
    line = oracle_losses(make_table([[1.0, 0.5, 0.25], [3.0, 2.9, 0.0]], [1, 2, 3]))
    # The second image gains 1.5 per unit going straight to the widest, the first 0.5, then 0.25.
    assert line.madds.tolist() == [1.0, 2.0, 2.5, 3.0]
    assert line.values.tolist() == pytest.approx([2.0, 0.5, 0.25, 0.125])


def test_random_routing_mixes_two_static_widths() -> None:
    # Shares wrong: 3/4, 3/4, 1/4. The middle width is worse than a mixture of the outer two.
    table = make_table([[0, 0, 0], [2, 2, 0], [2, 2, 0], [2, 2, 2]], [1, 2, 3])
    assert [random_errors(table).at(m) for m in (1, 2, 3)] == pytest.approx([0.75, 0.5, 0.25])
