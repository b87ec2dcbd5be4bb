"""One picture file, decoded fully, as RGB. Its sizes are bounded before memory is taken.

Every picture that this project reads from a file or a request is opened here, in `opened`.
"""

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from dsnet.errors import InputError

# Pillow's names of the formats that hold pictures. It reads drawings, documents and films too, some
# of them by other programs: what begins like PostScript would be handed to Ghostscript.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")  # of Pillow's
MOST_BYTES = 2**27  # of a file
MOST_PIXELS = 2**27  # that a picture may declare
MOST_MEMORY = 400_000_000  # bytes that decoding one may take, its pixels included
# Bytes for each pixel at the peak, with Pillow 13: 4 in its image and 3 in ours, or where it is
# more, what the decoder holds beside its image. tests/pipeline/predict/test_memory.py holds them.
_BYTES = {"TIFF": 8, "WEBP": 16, "AVIF": 16, "JPEG2000": 25}
_OTHERS = 7
_SCANS = 13  # of a JPEG in several scans, whose coefficients are all held
_BAND = 2**18  # pixels that are converted at once
ORIENTATION = 0x0112  # of EXIF; 1 is upright
# By orientation: steps along rows and columns of what is shown, and whether these two then change
# places, to go through it as the file does.
_TURNS = {
    2: (1, -1, False),
    3: (-1, -1, False),
    4: (-1, 1, False),
    5: (1, 1, True),
    6: (1, -1, True),
    7: (-1, -1, True),
    8: (-1, 1, True),
}


def picture_bytes(path: str | Path) -> bytes:
    """The content of a picture file, which is a regular file of at most MOST_BYTES.

    Raises InputError, naming `path`, for anything else, and where it cannot be read.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected an image file, found a folder")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"{path}: expected an image file, found no regular file")
        if status.st_size > MOST_BYTES:
            raise InputError(
                f"{path}: expected an image file of up to {MOST_BYTES:,} bytes, found "
                f"{status.st_size:,}"
            )
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: expected an image file: {reason}") from None


@contextmanager
def opened(
    data: bytes, path: str, most_pixels: int = MOST_PIXELS, enough: int | None = None
) -> Iterator[ImageFile.ImageFile]:
    """A picture file of one of FORMATS: its header read, its sizes within bounds, no pixels yet.

    most_pixels: that it may declare; fewer where decoding would take more than MOST_MEMORY. enough:
    pixels of the shorter side that are enough, 0 where none is needed: a JPEG that is too large
    will be decoded at a half, a quarter or an eighth of its size.

    Raises InputError, naming `path`, for other sizes and for what is no such picture, also where
    what is done with it within raises what Pillow does on damaged files.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata do not touch the pixels
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
                each = bytes_per_pixel(picture, data)
                most = most_pixels if enough == 0 else min(most_pixels, MOST_MEMORY // each)
                if enough and most < width * height <= most_pixels and each == _OTHERS:
                    picture.draft(None, (enough, enough))  # of other formats than JPEG, nothing
                if picture.width * picture.height > most:
                    raise InputError(
                        f"{path}: expected a picture of up to {most:,} pixels, found "
                        f"{width} x {height}"
                    )
                yield picture
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # more than Pillow opens, to say how many
        raise InputError(
            f"{path}: expected a picture of up to {most_pixels:,} pixels, found many more"
        ) from error
    # Pillow's decoders raise OSError, SyntaxError, struct.error and others on damaged files.
    except Exception as error:
        reason = " ".join(str(error).split()).replace(f"{io.BytesIO.__module__}.BytesIO", "file")
        if "cannot identify image file" in reason:
            reason = "not a picture in any known format" if data else "the file is empty"
        raise InputError(
            f"{path}: expected a picture that decodes, found a damaged one ({reason}); "
            "replace or remove it"
        ) from error


def read_picture(
    data: bytes, path: str, most_pixels: int = MOST_PIXELS, enough: int | None = None
) -> np.ndarray:
    """Decode a picture file to uint8 (H, W, 3) RGB; of several frames, the first.

    most_pixels, enough: as in `opened`.

    The EXIF orientation is applied; grey, palette and CMYK pictures are converted, 16-bit ones
    scaled to 8 bits, and transparent ones laid on white.

    Raises InputError, naming `path`, if any part of the file does not decode.
    """
    with opened(data, path, most_pixels, enough) as picture:
        return to_rgb(picture, path)


def to_rgb(picture: Image.Image, path: str, on_white: bool = True) -> np.ndarray:
    """A picture of any mode as uint8 (H, W, 3), turned upright.

    on_white: whether a transparent one is laid on white; else its colours are as they are stored.
    Raises InputError, naming `path`, for pixels that have no 8 bits to become.
    """
    return _upright(picture, 3, lambda band: _rgb(band, path, on_white))


def to_alpha(picture: Image.Image) -> np.ndarray:
    """How opaque each pixel of a picture with colours of 8 bits is, uint8 (H, W), upright."""
    alpha = _upright(picture, 1, lambda band: np.asarray(band.convert("RGBA"))[..., 3:])
    return alpha[..., 0]


def _upright(
    picture: Image.Image, channels: int, convert: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """uint8 (H, W, channels): bands of the picture as `convert` has them, put where they belong."""
    picture.load()
    width, height = picture.size
    down, right, swapped = _TURNS.get(_orientation(picture), (1, 1, False))
    shape = (width, height) if swapped else (height, width)
    shown = np.empty((*shape, channels), np.uint8)
    stored = shown[::down, ::right]  # a view, in the file's order
    stored = stored.swapaxes(0, 1) if swapped else stored
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = convert(picture.crop((0, top, width, bottom)))
    return shown


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # unreadable EXIF data says nothing about the orientation
        return 1


def _rgb(picture: Image.Image, path: str, on_white: bool) -> np.ndarray:
    if picture.mode == "F":
        raise InputError(
            f"{path}: expected whole-number pixels, found floating-point ones; convert it to 8 bits"
        )
    if picture.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip, not scale
        pixels = np.asarray(picture).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise InputError(
                f"{path}: expected pixels from 0 to 65535, found {pixels.min()} to "
                f"{pixels.max()}; convert it to 8 bits"
            )
        return ((pixels + 128) // 257).astype(np.uint8)[:, :, None]
    if picture.has_transparency_data and on_white:
        transparent = picture.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        picture = Image.alpha_composite(white, transparent)
    return np.asarray(picture.convert("RGB"))


def bytes_per_pixel(picture: Image.Image, data: bytes) -> int:
    """What it takes to decode a picture that is `opened`, at the peak, ours included."""
    if picture.format in ("JPEG", "MPO") and not _in_one_scan(data):
        return _SCANS
    return _BYTES.get(picture.format or "", _OTHERS)


def _in_one_scan(jpeg: bytes) -> bool:
    """Whether a JPEG is decoded as it is read: no progressive one, and all its colours together."""
    colours, at = 0, 2
    while jpeg[at : at + 1] == b"\xff" and at + 10 <= len(jpeg):
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4])
        if marker in (0xC0, 0xC1, 0xC9):  # a sequential frame
            colours = jpeg[at + 9]
        if marker == 0xDA:  # a scan
            return jpeg[at + 4] == colours
        at += 2 + length
    return False
