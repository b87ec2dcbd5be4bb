"""One picture file, decoded fully, as RGB. Its sizes are bounded before memory is taken."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dsnet.errors import InputError

MOST_BYTES = 2**27  # of a file
MOST_PIXELS = 2**27  # of a picture: 134 megapixels, 400 MB once decoded


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


def read_picture(data: bytes, path: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Decode a picture file to uint8 (H, W, 3) RGB; of several frames, the first.

    most_pixels: that it may declare.

    The EXIF orientation is applied; grey, palette and CMYK pictures are converted, 16-bit ones
    scaled to 8 bits, and transparent ones laid on white.

    Raises InputError, naming `path`, if any part of the file does not decode.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata do not touch the pixels
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > most_pixels:
                    raise InputError(
                        f"{path}: expected a picture of up to {most_pixels:,} pixels, found "
                        f"{picture.width} x {picture.height}"
                    )
                picture.load()
                return to_rgb(_upright(picture), path)
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


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # unreadable EXIF data says nothing about the orientation
        return picture


def to_rgb(picture: Image.Image, path: str) -> np.ndarray:
    """A decoded picture of any mode as uint8 (H, W, 3).

    Raises InputError, naming `path`, for pixels that have no 8 bits to become.
    """
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
        grey = ((pixels + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        transparent = picture.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        picture = Image.alpha_composite(white, transparent)
    return np.array(picture.convert("RGB"))
