"""Which rank reads which sample, for any number of samples and ranks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.loading.order import came_before, epoch_order, share_of

COUNTS = st.integers(1, 300)
WORLDS = st.integers(1, 9)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


def ranks(samples: int | np.ndarray, world_size: int, **how: Any) -> list[np.ndarray]:
    """What every rank reads."""
    how = {"shuffle": True, "seed": 0, "epoch": 0, "pad": False} | how
    order = epoch_order(samples, world_size=world_size, **how)
    return [share_of(order, rank, world_size) for rank in range(world_size)]


@given(COUNTS, WORLDS, st.booleans(), NUMBERS, NUMBERS)
def test_evaluation_reads_every_sample_exactly_once(
    count: int, world_size: int, shuffle: bool, seed: int, epoch: int
) -> None:
    parts = ranks(count, world_size, shuffle=shuffle, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(COUNTS, WORLDS, NUMBERS, NUMBERS)
def test_training_gives_every_rank_as_much_and_repeats_as_little_as_it_can(
    count: int, world_size: int, seed: int, epoch: int
) -> None:
    parts = ranks(count, world_size, seed=seed, epoch=epoch, pad=True)
    read = np.bincount(np.concatenate(parts), minlength=count)
    assert {len(part) for part in parts} == {-(-count // world_size)}
    assert read.min() >= 1
    assert read.max() - read.min() <= 1


@given(COUNTS, WORLDS, NUMBERS)
def test_the_samples_of_a_step_do_not_depend_on_how_many_ranks_share_it(
    count: int, world_size: int, seed: int
) -> None:
    alone = epoch_order(count, shuffle=True, seed=seed, epoch=1, world_size=1, pad=False)
    parts = ranks(count, world_size, seed=seed, epoch=1, pad=True)
    assert np.stack(parts, axis=1).reshape(-1)[:count].tolist() == alone.tolist()


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True), WORLDS)
def test_chosen_indices_are_read_and_no_others(chosen: list[int], world_size: int) -> None:
    parts = ranks(np.array(chosen), world_size)
    assert sorted(np.concatenate(parts)) == sorted(chosen)


def test_without_shuffling_the_order_is_the_given_one() -> None:
    parts = ranks(np.array([5, 3, 8]), 2, shuffle=False)
    assert [part.tolist() for part in parts] == [[5, 8], [3]]


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    orders = {
        tuple(ranks(50, 1, seed=seed, epoch=epoch)[0]) for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_each_place_is_as_likely_for_each_sample() -> None:
    first = [int(ranks(10, 1, epoch=epoch)[0][0]) for epoch in range(5000)]
    # Binomial(5000, 1/10): standard deviation 21.2; five of them.
    assert np.abs(np.bincount(first, minlength=10) - 500).max() < 5 * 21.2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), WORLDS, NUMBERS, NUMBERS)
def test_a_balanced_epoch_is_as_long_and_has_every_class_as_often(
    labels: list[int], world_size: int, seed: int, epoch: int
) -> None:
    kinds = np.array(labels)
    alone, *_ = ranks(len(kinds), 1, seed=seed, epoch=epoch, labels=kinds)
    assert len(alone) == len(kinds)
    drawn = np.bincount(kinds[alone])[np.unique(kinds)]
    assert drawn.max() - drawn.min() <= 1
    for kind in np.unique(kinds):  # and within a class every sample as often
        times = np.bincount(alone, minlength=len(kinds))[kinds == kind]
        assert times.max() - times.min() <= 1
    parts = ranks(len(kinds), world_size, seed=seed, epoch=epoch, pad=True, labels=kinds)
    assert np.stack(parts, axis=1).reshape(-1)[: len(kinds)].tolist() == alone.tolist()


def test_a_balanced_epoch_draws_others_each_time_and_counts_repeats_over_ranks() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    how = {"seed": 0, "shuffle": True, "pad": True, "labels": labels, "samples": 100}
    frequent = set()
    for epoch in range(4):
        order = epoch_order(**how, epoch=epoch, world_size=1)
        frequent.add(tuple(np.unique(order[order < 90])))
        of_both = epoch_order(**how, epoch=epoch, world_size=2)
        pairs = zip(
            *(
                np.concatenate([share_of(of, rank, 2) for rank in range(2)]).tolist()
                for of in (of_both, came_before(of_both))
            ),
            strict=True,
        )
        assert len(set(pairs)) == 100  # no sample twice with the same count
    assert len(frequent) == 4


@pytest.mark.parametrize(("count", "rank", "words"), [(0, 0, "sample"), (3, 2, "rank")])
def test_nonsense_is_refused(count: int, rank: int, words: str) -> None:
    how = {"shuffle": True, "seed": 0, "epoch": 0, "world_size": 2, "pad": True}
    with pytest.raises(ValueError, match=words):
        share_of(epoch_order(count, **how), rank, 2)
