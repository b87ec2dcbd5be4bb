"""Which sample goes where: the order of an epoch, and each rank's part of it."""

import numpy as np

from pipeline.data.random_bits import permutation

_BALANCED = 1
"""Tells what is drawn from the order that it is read in."""


def epoch_order(
    samples: int | np.ndarray,
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    world_size: int,
    pad: bool,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """The samples that all ranks together read in `epoch`, in order: int64 (n,).

    `samples` is a number of samples or the indices to choose from. Ranks take turns (`share_of`),
    so the global batch of a step is the same pictures however many ranks share it. The order
    depends on (seed, epoch) alone.

    `labels`, int (samples,), of the indices: with them an epoch is as long, but has as many samples
    of every class (one more of some, if it does not come out even). It then reads samples of rare
    classes several times, and not all of frequent ones; which, differs from epoch to epoch.

    Without `pad`, every index is in it exactly once, and the ranks' counts differ by at most one.
    With `pad`, every rank reads the same number: the epoch's first samples are read once more at
    its end, fewer than `world_size` of them (more only if there are fewer samples than ranks).

    Raises ValueError if there is no sample.
    """
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
    return indices


def share_of(order: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """What `rank` has of an order (n,), or of what goes with it: every `world_size`-th, contiguous.

    Raises ValueError if rank is not in range(world_size).
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: expected 0 to {world_size - 1}, found {rank}")
    return np.ascontiguousarray(order[rank::world_size])


def came_before(order: np.ndarray) -> np.ndarray:
    """How often each sample of an order, int64 (n,), came before in it: int64 (n,)."""
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
