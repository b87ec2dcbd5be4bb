"""Which files are meant: files, folders with all below them, and lists of both."""

import os
from collections.abc import Iterable, Iterator

import numpy as np

from dsnet.runtime.pictures import picture_bytes, read_picture
from dsnet.runtime.pixels import prepare


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


def read_input(path: str, resolution: int, crop: float) -> np.ndarray:
    """An image file as a model takes it before normalising: uint8 (R, R, 3), R its resolution.

    The middle square of the picture, `crop` of its shorter side, resized by area, as the loader
    does in evaluation. Raises InputError if the file is not an image.
    """
    return prepare(read_picture(picture_bytes(path), path)[None], resolution, crop)[0]
