"""Counter-based random numbers: a hash of where they are used, so no generator has a state."""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(counters: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014) of uint64 counters, elementwise."""
    z = counters + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_key(*parts: int) -> np.uint64:
    """One 64-bit key from whole numbers such as (seed, epoch); their order matters."""
    key = np.zeros(1, np.uint64)
    for part in parts:
        key = splitmix64(key ^ np.array([part], np.int64).view(np.uint64))
    return np.uint64(key[0])


def repeated_keys(key: np.uint64, times: np.ndarray) -> np.ndarray:
    """The key for the first time (0), and others for each time after it: uint64 (N,)."""
    others = splitmix64(key ^ splitmix64(times.astype(np.uint64)))
    return np.where(times == 0, key, others)


def streams(keys: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """A number of its own for each sample, int64 (N,), and key, uint64 (N,): uint64 (N,)."""
    return splitmix64(keys ^ splitmix64(samples.astype(np.uint64)))


def uniforms(keys: np.ndarray, samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Random numbers of samples, int64 (N,), at `places` of their streams, int64 (P,).

    keys: uint64 (N,).

    float64 (N, P) in [0, 1), as the decoder has them: place `p` of sample `s` depends on its key, s
    and p alone.
    """
    counters = streams(keys, samples)[:, None] + places.astype(np.uint64) * _GOLDEN
    return (splitmix64(counters) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *parts: int) -> np.ndarray:
    """A permutation of range(count), int64 (count,), that depends on `parts` alone."""
    counters = np.arange(count, dtype=np.uint64)
    return np.argsort(splitmix64(splitmix64(counters) ^ random_key(*parts)), kind="stable")
