"""Pixels are the exact means of what they cover."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsnet.runtime.pixels import middle_square, prepare


def mean(square: np.ndarray, row: int, column: int, wanted: int) -> Fraction:
    """Of the part that pixel (row, column) of wanted x wanted covers, in whole fractions."""
    side = len(square)
    total = Fraction(0)
    for y in range(side):
        for x in range(side):
            area = Fraction(1)
            for at, cell in ((y, row), (x, column)):
                start, end = Fraction(cell * side, wanted), Fraction((cell + 1) * side, wanted)
                area *= max(Fraction(0), min(at + 1, end) - max(Fraction(at), start))
            total += area * int(square[y, x])
    return total * wanted**2 / side**2


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.5, 0.875, 1.0]))
def test_a_pixel_is_the_mean_of_what_it_covers(
    height: int, width: int, wanted: int, crop: float
) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    top, left, side = middle_square(height, width, crop)
    square = pixels[0, top : top + side, left : left + side, 0]
    found = prepare(pixels, wanted, crop)
    assert found.shape == (1, wanted, wanted, 3) and found.dtype == np.uint8
    for row in range(wanted):
        for column in range(wanted):
            # Python rounds halves to even too.
            assert found[0, row, column, 0] == round(mean(square, row, column, wanted))


def test_the_largest_sums_are_exact() -> None:
    white = np.full((1, 3000, 3000, 3), 255, np.uint8)
    assert (prepare(white, 7, 1.0) == 255).all()
