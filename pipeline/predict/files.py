"""Which files are meant: files, folders with all below them, and lists of both."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
from dsnet.runtime.pixels import prepare

MOST_BYTES = 2**29  # of a file; nothing that Pillow agrees to decode comes close


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
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected an image file, found a folder without any file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"{path}: expected an image file, found no regular file")
        if status.st_size > MOST_BYTES:
            raise InputError(
                f"{path}: expected an image file of up to {MOST_BYTES:,} bytes, found "
                f"{status.st_size:,}"
            )
        data = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: expected an image file: {reason}") from None
    return prepare(read_picture(data, path)[None], resolution, crop)[0]
