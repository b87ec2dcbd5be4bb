"""The pictures of a source cut into tiles: samples of one size, which cover every pixel."""

import io
from functools import cached_property

import numpy as np
from PIL import Image

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
from pipeline.data.sources.base import Sample, Source, digest, unused_files

_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)  # of EXIF: those that swap height and width


class Tiles:
    """The pictures of `source` as squares of `side` pixels, row by row.

    The last of a row or column ends with the picture, and overlaps the one before it. A picture
    with a shorter side is one tile that cannot be read, so that it is counted and named with what
    else is bad. How large pictures are is read from each once, before the first tile.
    """

    def __init__(self, source: Source, side: int) -> None:
        self.name, self.split, self.classes = source.name, source.split, source.classes
        self.unused = unused_files(source)
        self.side = side
        self._source = source
        self._recent: tuple[tuple[int, np.ndarray], ...] = ()

    @cached_property
    def _places(self) -> list[tuple[int, int, int]]:
        """Of each tile its picture, and where in it the tile begins: row and column."""
        return [
            (index, top, left)
            for index in range(len(self._source))
            for top, left in self._corners(index)
        ]

    def _corners(self, index: int) -> list[tuple[int, int]]:
        try:
            height, width = _size(self._source[index])
        except (InputError, OSError, SyntaxError):  # what is wrong is said where it is read
            return [(0, 0)]
        return [(top, left) for top in self._starts(height) for left in self._starts(width)]

    def _starts(self, length: int) -> list[int]:
        return [*range(0, length - self.side, self.side), max(length - self.side, 0)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        picture, top, left = self._places[index]
        sample = self._source[picture]
        pixels = self._pixels(picture, sample)
        tile = pixels[top : top + self.side, left : left + self.side]
        if tile.shape[:2] != (self.side, self.side):
            height, width = pixels.shape[:2]
            raise InputError(
                f"{sample.path}: expected a picture of at least {self.side} pixels a side, as "
                f"tiles of {self.side} are cut, found {width} x {height}"
            )
        return Sample(np.ascontiguousarray(tile), sample.label, f"{sample.path}[{top}, {left}]")

    def labels(self) -> np.ndarray:
        """int64 (samples,)."""
        labels: np.ndarray = self._source.labels()[[picture for picture, _, _ in self._places]]
        return labels

    def fingerprint(self) -> str:
        """A digest of the source's, and of the side."""
        return digest([self._source.fingerprint(), "tiles", str(self.side)])

    def _pixels(self, index: int, sample: Sample) -> np.ndarray:
        """A picture decoded; the last two are kept, as tiles are asked for in order."""
        for known, pixels in self._recent:
            if known == index:
                return pixels
        image = sample.image
        pixels = read_picture(image, sample.path) if isinstance(image, bytes) else image
        self._recent = (*self._recent[-1:], (index, pixels))
        return pixels


def _size(sample: Sample) -> tuple[int, int]:
    """Height and width as it is shown, from its header."""
    if not isinstance(sample.image, bytes):
        return sample.image.shape[0], sample.image.shape[1]
    with Image.open(io.BytesIO(sample.image)) as picture:
        width, height = picture.size
        sideways = picture.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (width, height) if sideways else (height, width)
