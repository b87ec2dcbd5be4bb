"""Which files are meant: files, folders with all below them, and lists of both."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from dsnet.runtime.pictures import MOST_MEMORY, bytes_per_pixel, opened, picture_bytes, to_rgb
from dsnet.runtime.pixels import prepare, shorter_side


def listed(data: bytes) -> list[str]:
    """The paths in a list, one a line, or ended by NUL as `find -print0` writes them."""
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(line) for line in lines if line]


def expand(paths: Iterable[str]) -> list[str]:
    """The files that are meant, in order: of a folder all below it, by name.

    Hidden ones are left out, and links to folders are not followed. A folder without any file stays
    as it is, for `read_input` to say so.
    """
    return [file for path in paths for file in (list(_below(path)) or [path])]


def _below(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.join(parent, name)


class _Memory:
    """Bytes that threads may take together: who wants more than are left waits."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._given_back = threading.Condition()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Within, `wanted` bytes are taken; they must not be more than there are in all."""
        with self._given_back:
            self._given_back.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._given_back:
                self._free += wanted
                self._given_back.notify_all()


_MEMORY = _Memory(MOST_MEMORY)
# Pillow's blocks, of 16 MB else, are then large enough for free() to give them back to the system.
# Others it keeps for the thread that had them, and each thread would come to hold a large picture.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]


def read_input(path: str, resolution: int, crop: float) -> np.ndarray:
    """An image file as a model takes it before normalising: uint8 (R, R, 3), R its resolution.

    The middle square of the picture, `crop` of its shorter side, resized by area, as the loader
    does in evaluation. Threads that decode share MOST_MEMORY, and wait for it where pictures are
    large. Raises InputError if the file is not an image.
    """
    data = picture_bytes(path)
    with opened(data, path, enough=shorter_side(resolution, crop)) as picture:
        wanted = picture.width * picture.height * bytes_per_pixel(picture, data)
        with _MEMORY.taken(wanted):
            return prepare(to_rgb(picture, path)[None], resolution, crop)[0]
