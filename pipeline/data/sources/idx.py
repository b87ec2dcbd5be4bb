"""A folder with four IDX files, as MNIST and Fashion-MNIST are published."""

import gzip
import math
import os
import struct
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.beton_format import LONGEST_SIDE
from pipeline.data.sources.base import Sample, Source, digest, unknown_split
from pipeline.data.sources.class_names import counted
from pipeline.data.sources.walk import others_in

EXPECTED = "a folder of IDX files, the word fashion-mnist"

FASHION_MNIST = "fashion-mnist"
PACKAGE = Path("/usr/share/datasets") / FASHION_MNIST  # of Debian's dataset-fashion-mnist
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PREFIXES = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
UNSIGNED_BYTES = 0x08
MOST_INFLATED = 1032  # bytes that gzip makes of one, at most


def opened(spec: str, split: str) -> Source | None:
    """Fashion-MNIST where `spec` is the word, or a folder with MNIST's four names, plain or .gz.

    Classes are the labels' numbers; those of a folder named fashion-mnist have names.
    """
    folder = Path(spec)
    if spec == FASHION_MNIST:
        folder = PACKAGE
        if not folder.is_dir():
            raise InputError(
                f"source {spec}: expected Debian's package dataset-fashion-mnist in {folder}, "
                "found none; apt-get install dataset-fashion-mnist, or give a folder with its four "
                "IDX files"
            )
    present = [name for name, prefix in PREFIXES.items() if _find(folder, f"{prefix}-{IMAGES}")]
    if not present:
        return None
    if split not in present:
        raise unknown_split(spec, sorted(present), split)
    return IdxFolder(folder, split)


class IdxFolder(Source):
    """One split of a folder of IDX files: grey pictures of one size, in three equal channels."""

    def __init__(self, folder: Path, split: str) -> None:
        self.name, self.split = str(folder), split
        prefix = PREFIXES[split]
        self._images = IdxFile(_needed(folder, f"{prefix}-{IMAGES}"), dimensions=3)
        labels = IdxFile(_needed(folder, f"{prefix}-{LABELS}"), dimensions=1)
        pictures, *sides = self._images.shape
        if not pictures or not 0 < min(sides) <= max(sides) <= LONGEST_SIDE:
            raise InputError(
                f"{self._images.path}: expected pictures of 1 to {LONGEST_SIDE} pixels a side, "
                f"found {pictures} of {' x '.join(map(str, sides))}"
            )
        if labels.shape != (pictures,):
            raise InputError(
                f"{labels.path}: expected {pictures} labels, one for each picture, found "
                f"{labels.shape[0]}"
            )
        self.classes = self._named(folder)
        self._labels, _ = counted(labels.values.astype(np.int64), self.classes, self.name, split)
        self.files = self._paths = [self._images.path, labels.path]
        own = [f"{prefix}-{name}" for prefix in PREFIXES.values() for name in (IMAGES, LABELS)]
        self._leave(others_in(folder, {*own, *(f"{name}.gz" for name in own)}))

    def _named(self, folder: Path) -> tuple[str, ...]:
        # Of both splits' labels: one of them alone may lack the last class.
        paths = [_find(folder, f"{prefix}-{LABELS}") for prefix in PREFIXES.values()]
        files = [IdxFile(path, dimensions=1).values for path in paths if path is not None]
        count = 1 + max(int(labels.max(initial=0)) for labels in files)
        if folder.resolve().name != FASHION_MNIST:
            return tuple(str(label) for label in range(count))
        if count > len(FASHION_CLASSES):
            raise InputError(
                f"source {folder}: expected labels 0 to {len(FASHION_CLASSES) - 1}, as "
                f"Fashion-MNIST has, found {count - 1}"
            )
        return FASHION_CLASSES

    def __getitem__(self, index: int) -> Sample:
        grey = self._images.values[index]
        pixels = np.repeat(grey[..., None], 3, axis=2)
        return Sample(pixels, int(self._labels[index]), f"{self.name}[{index}]")

    def fingerprint(self) -> str:
        """A digest of both files' names, sizes and modification times, and of the classes."""
        parts = list(self.classes)
        for path in self._paths:
            status = os.stat(path)
            parts += [path.name, str(status.st_size), str(status.st_mtime_ns)]
        return digest(parts)


class IdxFile:
    """An IDX file of unsigned bytes. Its header is held to its size before memory is taken."""

    def __init__(self, path: Path, dimensions: int) -> None:
        self.path = path
        self._offset = 4 + 4 * dimensions
        header = self._read(self._offset)
        expected = bytes((0, 0, UNSIGNED_BYTES, dimensions))
        if len(header) < self._offset or header[:4] != expected:
            raise InputError(
                f"{path}: expected an IDX file of unsigned bytes in {dimensions} dimensions, which "
                f"begins with {expected.hex()}, found {header[:4].hex() or 'nothing'}"
            )
        self.shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", header[4:])
        self._size = self._offset + math.prod(self.shape)
        size = path.stat().st_size
        if self._size > size * MOST_INFLATED if self._packed else self._size != size:
            raise self._wrong_size(f"a file of {size} bytes")

    @property
    def _packed(self) -> bool:
        return self.path.suffix == ".gz"

    @cached_property
    def values(self) -> np.ndarray:
        """uint8, of the header's shape. Raises InputError for a file that has not as many."""
        content = self._read(self._size + 1)
        if len(content) != self._size:
            found = "more" if len(content) > self._size else f"{len(content)} bytes"
            raise self._wrong_size(found)
        return np.frombuffer(content, np.uint8, offset=self._offset).reshape(self.shape)

    def _read(self, most: int) -> bytes:
        """The first bytes, at most so many, as they were before packing."""
        opener = gzip.open if self._packed else open
        try:
            with opener(self.path, "rb") as file:
                content: bytes = file.read(most)
                return content
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path}: expected a readable IDX file, found {error}") from error

    def _wrong_size(self, found: str) -> InputError:
        shape = " x ".join(map(str, self.shape))
        return InputError(
            f"{self.path}: expected {self._size} bytes, as its header's {shape} come to, "
            f"found {found}"
        )


def _find(folder: Path, name: str) -> Path | None:
    """The file of that name, or of that name and .gz."""
    return next((path for end in ("", ".gz") if (path := folder / (name + end)).is_file()), None)


def _needed(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise InputError(f"source {folder}: expected {name} or {name}.gz in it, found neither")
    return path
