"""Random numbers are the published splitmix64, and depend on their place alone."""

import numpy as np
import pytest

from pipeline.data.loading.decoder import hash64, stream, uniform
from pipeline.data.random_bits import permutation, random_key, splitmix64, uniforms

# The first outputs of the reference implementation (prng.di.unimi.it/splitmix64.c), state 1234567.
REFERENCE = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
STATES = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def test_numpy_and_the_compiled_decoder_compute_the_reference_sequence() -> None:
    assert splitmix64(STATES).tolist() == REFERENCE
    assert [int(hash64(state)) for state in STATES] == REFERENCE


def test_numbers_for_a_batch_are_the_decoders() -> None:
    key, samples, places = random_key(3, 1, 4), np.array([0, 5, 2**40]), np.array([0, 7, 300])
    expected = [[uniform(np.uint64(stream(key, s)), p) for p in places] for s in samples]
    assert uniforms(np.full(3, key), samples, places).tolist() == expected


@pytest.mark.parametrize("place", [0, 1, 40])
def test_the_decoders_numbers_are_uniform_over_samples_and_epochs(place: int) -> None:
    def number(epoch: int, sample: int) -> float:
        return uniform(np.uint64(stream(random_key(0, epoch, 0), sample)), place)

    by_sample = [number(0, sample) for sample in range(10_000)]
    by_epoch = [number(epoch, 0) for epoch in range(10_000)]
    for numbers in (by_sample, by_epoch):
        # Kolmogorov's statistic: 1.95 / sqrt(n) is passed by chance once in a thousand.
        distance = np.abs(np.sort(numbers) - (np.arange(10_000) + 0.5) / 10_000).max()
        assert distance < 1.95 / np.sqrt(10_000)
        # The correlation of neighbours has a standard deviation of 1 / sqrt(n).
        assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 4 / np.sqrt(10_000)


def test_keys_differ_in_every_part_and_its_place() -> None:
    keys = {int(random_key(*parts)) for parts in [(0, 1), (1, 0), (0, 0), (0, 0, 0), (0,), (-1,)]}
    assert len(keys) == 6


def test_a_permutation_sorts_by_the_hash_whatever_the_library_and_the_machine() -> None:
    def hashed(number: int) -> int:  # splitmix64 on Python's whole numbers
        z = (number + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    key = hashed(hashed(7) ^ 3)
    expected = sorted(range(50), key=lambda number: hashed(hashed(number) ^ key))
    assert permutation(50, 7, 3).tolist() == expected
