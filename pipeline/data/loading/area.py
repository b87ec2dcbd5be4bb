"""Pictures made smaller by area, each pixel the mean of what it covers: what OpenCV computes.

To the bit, by the same order of float32 sums as `cv::resize` with INTER_AREA has for scales that
are not whole numbers, in about half its time: OpenCV adds up in memory, pixel by pixel of the
source, and computes twice the rows that two rows of the result share.
"""

import math

import numpy as np

from pipeline.data.loading.compiled import jit

# Added and taken away again it rounds a float32 of up to 2**22 to a whole number, halves to even.
_ROUND = np.float32(1.5 * 2**23)
_TAPS = 3  # the most source pixels under one at scales of up to two, where nearly all crops are


@jit
def is_by_area(height: int, width: int, rows: int, columns: int) -> bool:
    """Whether `shrink` computes what OpenCV does: no side larger, nor both by whole numbers.

    And none too short for the pixels that are read together.
    """
    smaller = rows <= height and columns <= width and min(height, width) >= _TAPS
    return smaller and not (height % rows == 0 and width % columns == 0)


@jit
def _cover(length: int, firsts: np.ndarray, shares: np.ndarray) -> int:
    """Which source pixels, of `length`, lie under each of D; the most under one, at least three.

    Writes firsts, int32 (D,): the first of them; and shares, float32 (T, D): of that and of those
    after it. All have the same number: what does not lie under one has share 0, and the last
    start so much earlier that none leads outside.
    """
    count = len(firsts)
    scale = 1.0 / (count / length)  # as OpenCV has it: not always length / count to the last bit
    most = _TAPS
    shares[:] = 0
    for place in range(count):
        start = place * scale
        end = start + scale
        cell = min(scale, length - start)
        last = min(math.floor(end), length - 1)
        first = min(math.ceil(start), last)
        taps = 0
        firsts[place] = first
        if first - start > 1e-3:
            firsts[place] = first - 1
            shares[taps, place] = (first - start) / cell
            taps += 1
        for _ in range(first, last):
            shares[taps, place] = 1.0 / cell
            taps += 1
        if end - last > 1e-3:
            shares[taps, place] = min(min(end - last, 1.0), cell) / cell
            taps += 1
        most = max(most, taps)
    for place in range(count - 1, -1, -1):
        back = firsts[place] + most - length
        if back <= 0:
            break
        firsts[place] -= back
        for tap in range(most - 1, -1, -1):
            shares[tap, place] = shares[tap - back, place] if tap >= back else 0
    return most


@jit
def _across(
    row: np.ndarray, firsts: np.ndarray, shares: np.ndarray, taps: int, out: np.ndarray
) -> None:
    """A row of the source, uint8 (3 * w,), as wide as the result: float32 (3 * D,)."""
    for place in range(len(firsts)):
        at = 3 * firsts[place]
        a, b, c = shares[0, place], shares[1, place], shares[2, place]
        # Three taps in registers; a loop over all of them takes a fifth longer.
        red = np.float32(row[at]) * a + np.float32(row[at + 3]) * b
        red += np.float32(row[at + 6]) * c
        green = np.float32(row[at + 1]) * a + np.float32(row[at + 4]) * b
        green += np.float32(row[at + 7]) * c
        blue = np.float32(row[at + 2]) * a + np.float32(row[at + 5]) * b
        blue += np.float32(row[at + 8]) * c
        for tap in range(_TAPS, taps):
            at += 3
            share = shares[tap, place]
            red += np.float32(row[at + 6]) * share
            green += np.float32(row[at + 7]) * share
            blue += np.float32(row[at + 8]) * share
        out[3 * place], out[3 * place + 1], out[3 * place + 2] = red, green, blue


@jit
def shrink(
    pixels: np.ndarray, stride: int, top: int, left: int, h: int, w: int, image: np.ndarray
) -> None:
    """Part of a picture, made as small as `image`, uint8 (R, C, 3), which is written.

    pixels: uint8, rows of `stride` bytes. The part begins at row `top` and pixel `left`, has `h`
    rows of `w` pixels, and lies within; `is_by_area(h, w, R, C)` holds.
    """
    rows, columns, _ = image.shape
    most = int(max(h / rows, w / columns)) + 3
    down, down_shares = np.empty(rows, np.int32), np.empty((most, rows), np.float32)
    across, across_shares = np.empty(columns, np.int32), np.empty((most, columns), np.float32)
    down_taps = _cover(h, down, down_shares)
    across_taps = _cover(w, across, across_shares)
    narrow = np.empty(3 * columns, np.float32)
    total = np.empty(3 * columns, np.float32)
    done = -1  # the source row that `narrow` is of: two rows of the result may share one
    for number in range(rows):
        total[:] = 0
        for tap in range(down_taps):
            share = down_shares[tap, number]
            if share == 0:
                continue
            if done != down[number] + tap:
                done = down[number] + tap
                start = (top + done) * stride + 3 * left
                row = pixels[start : start + 3 * w]
                _across(row, across, across_shares, across_taps, narrow)
            for value in range(3 * columns):
                total[value] += share * narrow[value]
        line = image[number].reshape(3 * columns)
        for value in range(3 * columns):
            line[value] = np.uint8((total[value] + _ROUND) - _ROUND)
