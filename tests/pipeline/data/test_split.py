"""A part set aside has its share of every class."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsnet.errors import InputError
from pipeline.data.manifest import Manifest
from pipeline.data.split import holdout, stratified

LABELS = st.lists(st.integers(0, 7), min_size=1, max_size=300).map(np.array)


@given(LABELS, st.integers(1, 99), st.integers(0, 2**32))
def test_the_two_sides_are_disjoint_complete_and_every_class_has_its_share(
    labels: np.ndarray, percent: int, seed: int
) -> None:
    rest, part = stratified(labels, percent / 100, seed)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    total = math.ceil(Fraction(percent, 100) * len(labels))
    assert len(part) == total
    for label in np.unique(labels):
        share = total * Fraction(int((labels == label).sum()), len(labels))
        assert abs((labels[part] == label).sum() - share) < 1


@given(LABELS, st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_split(labels: np.ndarray, seed: int) -> None:
    first, second = stratified(labels, 0.3, seed), stratified(labels, 0.3, seed)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed_gives_another_split() -> None:
    labels = np.zeros(100, np.int64)
    splits = {tuple(stratified(labels, 0.1, seed)[1]) for seed in range(10)}
    assert len(splits) == 10


def test_a_beton_is_split_by_the_labels_in_it(digits: Manifest) -> None:
    train, held_out = holdout(digits, 0.1, seed=3)
    assert (len(train), len(held_out)) == (324, 36)
    per_class = np.bincount(digits.labels()[held_out], minlength=10)
    assert set(per_class.tolist()) <= {3, 4}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 0.999])
def test_a_fraction_that_leaves_a_side_empty_is_refused(digits: Manifest, fraction: float) -> None:
    with pytest.raises(InputError, match="fraction"):
        holdout(digits, fraction, seed=0)
