"""The part of a picture that a network sees, at the network's resolution; exact, in NumPy.

One rule for predictor, MLflow model and `dsnet predict`: whole numbers throughout, rounded once at
the end (halves to even), so that no runtime or machine gets other pixels.
"""

import math

import numpy as np


def middle_square(height: int, width: int, crop: float) -> tuple[int, int, int]:
    """(top, left, side) of the square in a picture's middle, `crop` of its shorter side.

    Python alone: the loader compiles it, so that what is trained, evaluated and predicted is cut
    by one rule.
    """
    side = max(1, int(crop * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side


def shorter_side(resolution: int, crop: float) -> int:
    """Pixels of a picture's shorter side that are enough: of these, `prepare` enlarges none."""
    return math.ceil(resolution / crop)


def prepare(images: np.ndarray, resolution: int, crop: float) -> np.ndarray:
    """uint8 (N, H, W, 3) -> uint8 (N, resolution, resolution, 3), as in evaluation.

    The middle square, `crop` of the shorter side, resized by area: each pixel is the mean of the
    part of the picture that it covers.
    """
    top, left, side = middle_square(images.shape[1], images.shape[2], crop)
    square = images[:, top : top + side, left : left + side]
    if side == resolution:
        return np.ascontiguousarray(square)
    # At most 255 * side, and 255 * side^2: whole numbers that int32 and float64 hold.
    rows = _sums(square, 1, resolution, np.int32)
    both = _sums(rows, 2, resolution, np.float64)
    return np.rint(both / side**2).astype(np.uint8)


def _sums(pixels: np.ndarray, axis: int, wanted: int, dtype: type) -> np.ndarray:
    """Sums of pixels along `axis` over each of `wanted` equal parts of it.

    In units of 1 / wanted of a pixel, by which every part covers a whole number of each.
    """
    size = pixels.shape[axis]
    edges = np.arange(wanted + 1) * size
    first = edges[:-1] // wanted
    shape = [1] * pixels.ndim
    shape[axis] = wanted
    sums = np.zeros((*pixels.shape[:axis], wanted, *pixels.shape[axis + 1 :]), dtype)
    for step in range(size // wanted + 2):  # the most pixels that a part touches
        pixel = first + step
        end = np.minimum((pixel + 1) * wanted, edges[1:])
        covered = np.maximum(end - np.maximum(pixel * wanted, edges[:-1]), 0).astype(dtype)
        sums += covered.reshape(shape) * pixels.take(np.minimum(pixel, size - 1), axis)
    return sums
