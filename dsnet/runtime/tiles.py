"""A picture of any size in tiles that overlap, each as it would be in the whole; in NumPy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.session import Outputs

TILE = 512  # side of what of a tile is kept, in pixels
BATCH_PIXELS = 2**19  # of tiles that run at once

Run = Callable[[np.ndarray], Outputs]
"""Images uint8 (N, H, W, 3) of any size to pictures, float (N, 3, H, W), widths and madds, (N,)."""
Box = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Surroundings:
    """What a network needs around a pixel."""

    reach: int
    """Pixels to each side that a pixel depends on."""
    factor: int
    """Tiles begin at multiples of it."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture."""

    seen: Box
    """What the network is given of it: with a margin, up to the picture's edge."""
    kept: Box
    """Which part of what that becomes is kept."""
    place: Box
    """Where in the picture it belongs."""


@dataclass(frozen=True)
class Restored:
    """What a network makes of a picture."""

    picture: np.ndarray
    """uint8 (H, W, 3)."""
    widths: list[int]
    """Of each tile, row by row; one where the picture is one tile."""
    width: int
    """That of the most pixels; of equals the widest."""
    madds: int
    """Multiply-adds of all tiles."""


def restore(
    run: Run, picture: np.ndarray, around: Surroundings, tile: int = TILE, place: str = "picture"
) -> Restored:
    """Run a network whose outputs are pictures on one of any size, in tiles where it is large.

    picture: uint8 (H, W, 3). around: the network's; tiles overlap by as much, so that at one width
    they give what the whole would. tile: side of what is kept of each, which is an image of its own
    to the gates. place: what to call the picture in an error. Raises InputError for a picture that
    is smaller than what a pixel depends on.
    """
    height, width = picture.shape[:2]
    reach, factor = around.reach, around.factor
    if min(height, width) <= reach:
        raise InputError(
            f"{place}: expected a picture of more than {reach} pixels a side, as many as a pixel "
            f"depends on around it, found {width} x {height}"
        )
    parts = list(tiles(height, width, tile, margin=-(-reach // factor) * factor, factor=factor))
    clean = np.empty((height, width, 3), np.uint8)
    widths = np.empty(len(parts), np.int64)
    total = 0
    for group in _batches(parts):
        pictures, chosen, madds = run(np.stack([picture[parts[i].seen] for i in group]))
        total += int(madds.sum())
        for index, output, used in zip(group, pictures, chosen.tolist(), strict=True):
            widths[index] = used
            rows, columns = parts[index].kept
            clean[parts[index].place] = to_pixels(output[:, rows, columns])
    pixels = np.bincount(widths, [_area(part.place) for part in parts])
    most = len(pixels) - 1 - int(pixels[::-1].argmax())
    return Restored(clean, widths.tolist(), most, total)


def tiles(height: int, width: int, side: int, margin: int, factor: int) -> Iterator[Tile]:
    """The tiles of a picture, row by row; what they keep covers it once."""
    side = max(factor, side // factor * factor)
    for top, bottom in _spans(height, side):
        for left, right in _spans(width, side):
            rows, kept_rows = _with_margin(top, bottom, margin, height)
            columns, kept_columns = _with_margin(left, right, margin, width)
            place = (slice(top, bottom), slice(left, right))
            yield Tile((rows, columns), (kept_rows, kept_columns), place)


def to_pixels(output: np.ndarray) -> np.ndarray:
    """float (3, H, W), of 0 to 1 where it is within range -> uint8 (H, W, 3)."""
    return np.rint(output.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    return [(first, min(first + side, length)) for first in range(0, length, side)]


def _with_margin(first: int, end: int, margin: int, length: int) -> tuple[slice, slice]:
    """(what is seen, which part of it is kept)."""
    start = max(0, first - margin)
    return slice(start, min(length, end + margin)), slice(first - start, end - start)


def _area(box: Box) -> int:
    return (box[0].stop - box[0].start) * (box[1].stop - box[1].start)


def _batches(parts: list[Tile]) -> Iterator[list[int]]:
    """Numbers of tiles that are of one size, as many as run at once."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, part in enumerate(parts):
        rows, columns = part.seen
        size = (rows.stop - rows.start, columns.stop - columns.start)
        group = groups.setdefault(size, [])
        group.append(index)
        if len(group) * size[0] * size[1] >= BATCH_PIXELS:
            yield groups.pop(size)
    yield from groups.values()
