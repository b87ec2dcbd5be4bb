"""What people give as images, one by one, as pixels: encoded, base64, files, arrays, Pillow's."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.pictures import picture_bytes, read_picture, to_rgb

COLUMN = "image"
EXPECTED = (
    "encoded bytes, base64 text, a path, or an array uint8 (H, W, 3); several as a list, an array "
    f"uint8 (N, H, W, 3), or a table with a column {COLUMN}"
)


def one_by_one(given: Any) -> list[Any]:
    """The images of an input as a list of what `read` takes; nothing is decoded yet.

    given: one image or several, see EXPECTED. Raises InputError for anything else.
    """
    if hasattr(given, "columns") or isinstance(given, Mapping):
        names = list(given if isinstance(given, Mapping) else given.columns)
        if COLUMN not in names:
            found = ", ".join(map(str, names)) or "none"
            raise InputError(f"input: expected a column {COLUMN}, found {found}")
        return one_by_one(list(given[COLUMN]) if hasattr(given, "columns") else given[COLUMN])
    if isinstance(given, bytes | bytearray | str | Path) or _is_pillow(given):
        return [given]
    if isinstance(given, list | tuple) and not (given and isinstance(given[0], list | tuple)):
        return list(given)
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"input: expected {EXPECTED}, found lists of unequal lengths") from None
    if array.dtype.kind in "OSU":
        return list(array.ravel())
    if array.ndim == 3:
        return [array]
    if array.ndim == 4:
        return list(array)
    raise InputError(f"input: expected {EXPECTED}, found {type(given).__name__} {array.shape}")


def read(image: Any, place: str, *, files: bool = True, enough: int | None = None) -> np.ndarray:
    """One image as uint8 (H, W, 3) RGB. place: what to call it in an error.

    files: whether text may be a path; where others send it, a path would read this machine's disk.
    enough: as in `dsnet.runtime.pictures.opened`. Raises InputError for what is no image.
    """
    if _is_pillow(image):
        return to_rgb(image, place)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_picture(bytes(image), place, enough=enough)
    if isinstance(image, str | Path):
        return read_picture(_content(str(image), place, files), place, enough=enough)
    if isinstance(image, np.ndarray | list) and np.ndim(image) == 3:
        return _pixels(np.asarray(image), place)
    shown = f"an array {np.shape(image)}" if isinstance(image, np.ndarray) else repr(image)[:40]
    raise InputError(f"{place}: expected {EXPECTED}, found {shown}")


def _content(text: str, place: str, files: bool) -> bytes:
    """The bytes that a path or base64 text stands for."""
    if files and len(text) < 4096 and Path(text).is_file():
        return picture_bytes(text)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        kinds = "base64 text or the path of a file" if files else "base64 text"
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise InputError(f"{place}: expected {kinds}, found {shown!r}") from None


def _pixels(pixels: np.ndarray, place: str) -> np.ndarray:
    shape = pixels.shape
    if shape[2] != 3 or 0 in shape:
        hint = "; move the channels last" if shape[0] == 3 else ""
        raise InputError(f"{place}: expected an array (H, W, 3), found {shape}{hint}")
    # JSON has no uint8.
    whole = pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 255
    if not whole:
        raise InputError(
            f"{place}: expected uint8 pixels from 0 to 255, found {pixels.dtype} from "
            f"{pixels.min()} to {pixels.max()}; normalising is part of the model"
        )
    return pixels.astype(np.uint8)


def _is_pillow(image: Any) -> bool:
    return type(image).__module__.startswith("PIL.")
