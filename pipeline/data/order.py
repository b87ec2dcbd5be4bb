"""Which sample goes where: the order of an epoch, and each rank's part of it."""

import numpy as np

from pipeline.data.random_bits import permutation


def epoch_indices(
    samples: int | np.ndarray,
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    pad: bool,
) -> np.ndarray:
    """The samples that `rank` reads in `epoch`, in order: int64 (n,).

    `samples` is a number of samples or the indices to choose from. Ranks take turns, so the
    global batch of a step is the same pictures however many ranks share it. The order depends on
    (seed, epoch) alone.

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
    if shuffle:
        indices = indices[permutation(len(indices), seed, epoch)]
    if pad:
        rounds = -(-len(indices) // world_size)
        indices = np.resize(indices, rounds * world_size)  # np.resize repeats from the start
    return indices[rank::world_size]
