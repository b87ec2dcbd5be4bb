"""The pictures of a source cut into tiles: samples of one size, which cover every pixel."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.pictures import ORIENTATION, opened
from pipeline.cluster.progress import Progress
from pipeline.data.sources.base import Sample, Source, digest
from pipeline.data.sources.derived import Derived

_KEPT = 2  # decoded pictures: threads that read on straddle two
_MEASURED = 1024  # pictures at once


class BadTile(InputError):
    """Why a tile cannot be used. All of a picture's say the same, and it is one bad picture."""


class Tiles(Derived):
    """The pictures of `source` as squares of `side` pixels, row by row.

    The last of a row or column ends with the picture, and overlaps the one before it. A picture
    that cannot be read, or has a shorter side, is one sample, which raises BadTile: it is counted
    and named with what else is bad. Where the header is sound and the pixels are not, every tile
    raises it, and is counted once. Tiles are stored without loss.

    How large pictures are is read from each once, before the first tile: from its header, or where
    that has it turned, and of a PNG, from its pixels. A picture is decoded once for tiles that
    follow each other, whatever the number of threads, for the last two are kept: a thread that lags
    behind by more has it decoded again. By tasks it is decoded once for each part of 128 tiles that
    has some of it.
    """

    lossless = True

    def __init__(self, source: Source, side: int) -> None:
        super().__init__(source)
        self.side = side
        self.tiles = {"tile": side, "pictures": len(source)}
        self._decoded: dict[int, Future[Sample]] = {}
        self._asking = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_decoded": {}, "_asking": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_asking": threading.Lock()})

    @cached_property
    def _sizes(self) -> np.ndarray:
        """Height and width of each picture, int64 (pictures, 2); 0 where there is no tile in it."""
        pictures = len(self._source)
        sizes = np.zeros((pictures, 2), np.int64)
        progress = Progress(f"measure {self.split}", total=pictures, unit="images")
        with progress, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for start in range(0, pictures, _MEASURED):
                part = range(start, min(start + _MEASURED, pictures))
                sizes[part.start : part.stop] = list(pool.map(self._size, part))
                progress.update(part.stop)
        return sizes

    @cached_property
    def _ends(self) -> np.ndarray:
        """Running count of tiles at the end of each picture, int64 (pictures,)."""
        tiles = -(-self._sizes // self.side)
        return np.cumsum(np.maximum(tiles.prod(axis=1), 1))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        picture = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[picture - 1]) if picture else 0
        try:
            return self._tile(picture, index - first)
        except InputError as error:
            raise BadTile(str(error)) from error

    def labels(self) -> np.ndarray:
        """int64 (samples,)."""
        return np.repeat(self._source.labels(), np.diff(self._ends, prepend=0))

    def fingerprint(self) -> str:
        """A digest of the source's, and of the side."""
        return digest([self._source.fingerprint(), "tiles", str(self.side)])

    def _tile(self, picture: int, number: int) -> Sample:
        """One of a picture's tiles, by its number within the picture."""
        sample = self._picture(picture)
        pixels = sample.pixels()
        height, width = pixels.shape[:2]
        if min(height, width) < self.side:
            raise InputError(
                f"{sample.path}: expected a picture of at least {self.side} pixels a side, as "
                f"tiles of {self.side} are cut, found {width} x {height}"
            )
        if (height, width) != tuple(self._sizes[picture]):
            raise InputError(
                f"{sample.path}: expected the picture that was measured, found another size, "
                f"{width} x {height}: start again when nobody writes to it"
            )
        row, column = divmod(number, -(-width // self.side))
        top = min(row * self.side, height - self.side)
        left = min(column * self.side, width - self.side)
        tile = np.ascontiguousarray(pixels[top : top + self.side, left : left + self.side])
        return Sample(tile, sample.label, f"{sample.path}[{top}, {left}]")

    def _picture(self, index: int) -> Sample:
        """A picture with its pixels, decoded by the first thread that asks; the others wait."""
        with self._asking:
            future = self._decoded.get(index)
            mine = future is None
            if future is None:
                future = self._decoded[index] = Future()
                for old in list(self._decoded)[:-_KEPT]:
                    del self._decoded[old]
        if mine:
            try:
                sample = self._source[index]
                future.set_result(replace(sample, image=sample.pixels()))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _size(self, index: int) -> tuple[int, int]:
        """Height and width; (0, 0) where none can be cut, which is told when one is asked for."""
        try:
            sample = self._source[index]
            height, width = _size_by_header(sample) or sample.pixels().shape[:2]
        except InputError:
            return 0, 0
        return (height, width) if min(height, width) >= self.side else (0, 0)


def _size_by_header(sample: Sample) -> tuple[int, int] | None:
    """Height and width; None where the header does not say them for what is shown."""
    if not isinstance(sample.image, bytes):
        return sample.image.shape[0], sample.image.shape[1]
    try:
        with opened(sample.image, sample.path) as picture:
            upright = picture.getexif().get(ORIENTATION, 1) == 1
            return (picture.height, picture.width) if upright else None
    except InputError:  # decoding says it
        return None
