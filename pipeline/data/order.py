"""Which sample goes where: the order of an epoch, and each rank's part of it."""

from typing import Any

import numpy as np

from pipeline.data.random_bits import permutation

_BALANCED = 1
"""Tells what is drawn from the order that it is read in."""


def epoch_indices(
    samples: int | np.ndarray,
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    pad: bool,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """The samples that `rank` reads in `epoch`, in order: int64 (n,).

    `samples` is a number of samples or the indices to choose from. Ranks take turns, so the
    global batch of a step is the same pictures however many ranks share it. The order depends on
    (seed, epoch) alone.

    `labels`, int (samples,), of the indices: with them an epoch is as long, but has as many samples
    of every class (one more of some, if it does not come out even). It then reads samples of rare
    classes several times, and not all of frequent ones; which, differs from epoch to epoch.

    Without `pad`, all ranks together read every index exactly once, and their counts differ by at
    most one. With `pad`, every rank reads the same number: the epoch's first samples are read
    once more at its end, fewer than `world_size` of them (more only if there are fewer samples
    than ranks).

    Raises ValueError if there is no sample or rank is not in range(world_size).
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: expected 0 to {world_size - 1}, found {rank}")
    indices = np.arange(samples) if isinstance(samples, int) else np.asarray(samples)
    indices = indices.astype(np.int64)
    if not len(indices):
        raise ValueError("expected at least one sample, found none")
    if labels is not None:
        indices = indices[_balanced(labels, seed, epoch)]
    if shuffle:
        indices = indices[permutation(len(indices), seed, epoch)]
    if pad:
        rounds = -(-len(indices) // world_size)
        indices = np.resize(indices, rounds * world_size)  # np.resize repeats from the start
    return indices[rank::world_size]


def repeats(*, rank: int, world_size: int, **how: Any) -> np.ndarray:
    """How often each sample of `epoch_indices` came before in the epoch, on any rank: int64 (n,).

    Takes the same arguments.
    """
    parts = [epoch_indices(rank=r, world_size=world_size, **how) for r in range(world_size)]
    order = np.empty(sum(map(len, parts)), np.int64)
    for other, part in enumerate(parts):
        order[other::world_size] = part
    return _came_before(order)[rank::world_size]


def _came_before(order: np.ndarray) -> np.ndarray:
    by_sample = np.argsort(order, kind="stable")
    _, first, counts = np.unique(order[by_sample], return_index=True, return_counts=True)
    found = np.empty(len(order), np.int64)
    found[by_sample] = np.arange(len(order)) - np.repeat(first, counts)
    return found


def _balanced(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many positions in `labels`, int64, with every class as often, to within one.

    Within a class no sample is drawn a second time more than another.
    """
    classes, members = np.unique(labels, return_inverse=True)
    count = len(classes)
    quotas = np.full(count, len(labels) // count)
    quotas[permutation(count, seed, epoch, _BALANCED)[: len(labels) % count]] += 1
    chosen = []
    for index, quota in enumerate(quotas):
        of_class = np.flatnonzero(members == index)
        order = permutation(len(of_class), seed, epoch, _BALANCED, index)
        chosen.append(np.resize(of_class[order], quota))  # np.resize repeats from the start
    return np.concatenate(chosen)
