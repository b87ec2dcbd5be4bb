"""Pictures made smaller by area: to the bit what OpenCV computes; nothing outside is touched."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.loading.area import _cover, is_by_area, shrink

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_it_is_what_opencv_computes(h: int, w: int, rows: int, columns: int, seed: int) -> None:
    """Of a part in the middle of a picture."""
    if not is_by_area(h, w, rows, columns):
        return
    random = np.random.default_rng(seed)
    top, left, below, right = random.integers(0, 5, 4)
    picture = random.integers(0, 256, (top + h + below, left + w + right, 3), np.uint8)
    if seed % 4 == 0:
        picture[:] = picture > 127  # many means that are half-way between two values
    part = np.ascontiguousarray(picture[top : top + h, left : left + w])
    expected = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    around = np.full((rows + 2, columns, 3), 7, np.uint8)
    shrink(picture.reshape(-1), 3 * picture.shape[1], top, left, h, w, around[1:-1])
    assert (around[1:-1] == expected).all()
    assert (around[0] == 7).all() and (around[-1] == 7).all()


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_one_colour_stays_it(value: int) -> None:
    picture, small = np.full((50, 37, 3), value, np.uint8), np.empty((31, 23, 3), np.uint8)
    shrink(picture.reshape(-1), 3 * 37, 0, 0, 50, 37, small)
    assert (small == value).all()


def test_sides_that_grow_and_whole_scales_are_left_to_opencv() -> None:
    """It has other ways for those, which give other last bits."""
    assert is_by_area(9, 9, 8, 8) and is_by_area(16, 9, 8, 8) and is_by_area(8, 9, 8, 8)
    assert not is_by_area(8, 8, 8, 8) and not is_by_area(16, 24, 8, 8)
    assert not is_by_area(7, 9, 8, 8) and not is_by_area(9, 7, 8, 8)


def test_a_side_shorter_than_what_is_read_at_once_is_left_to_opencv() -> None:
    """Else pixels before the picture's first would be read, if only to count for nothing."""
    assert is_by_area(5, 3, 4, 2) and not is_by_area(5, 2, 4, 1) and not is_by_area(2, 5, 1, 4)


@given(st.integers(3, 90), st.integers(1, 40))
def test_no_pixel_outside_is_read(length: int, count: int) -> None:
    if count > length:
        return
    firsts, shares = np.empty(count, np.int32), np.empty((length // count + 3, count), np.float32)
    taps = _cover(length, firsts, shares)
    assert firsts.min() >= 0 and firsts.max() + taps <= length
    assert np.allclose(shares[:taps].sum(0), 1)
