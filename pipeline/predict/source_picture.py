"""A picture file: its colours, and what else of it the file that is made of it can keep."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from dsnet.io.files import atomic_file
from dsnet.runtime.pictures import GREY_MODES, ORIENTATION, opened, to_alpha, to_rgb

WITH_ALPHA = ("PNG", "TIFF", "WEBP")  # formats as Pillow writes them
WITH_EXIF = WITH_PROFILE = ("PNG", "JPEG", "TIFF", "WEBP")
WITH_DPI = ("PNG", "JPEG", "TIFF", "BMP")
MOST_EXIF = 2**16 - 3  # bytes, of a JPEG
SPACES = {b"GRAY": ("L",), b"RGB ": ("RGB",)}  # of ICC profiles, by modes that are written


@dataclass
class SourcePicture:
    """Of one picture, for one file."""

    kind: str
    """The format that is written."""
    pixels: np.ndarray
    """uint8 (H, W, 3): colours, upright, and laid on white where `alpha` cannot be kept."""
    mode: str
    """Pillow's, without alpha: L or RGB."""
    grey: bool
    """Whether all channels are equal."""
    alpha: np.ndarray | None = None
    """uint8 (H, W)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of Pillow's `save`."""
    lost: list[str] = field(default_factory=list)
    """What the file cannot keep, in words."""

    def write(self, clean: np.ndarray, path: Path) -> None:
        """Write uint8 (H, W, 3), which was made of `pixels`, whole or not at all."""
        picture = Image.fromarray(clean[..., 0] if self.mode == "L" else clean)
        if self.alpha is not None:
            picture.putalpha(Image.fromarray(self.alpha))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            picture.save(temporary, self.kind, **self.options)


def read(data: bytes, path: str, out: Path) -> SourcePicture:
    """A picture file's colours, and what of the rest a file `out` keeps.

    Raises InputError, naming `path`, where it does not decode.
    """
    kind = Image.registered_extensions()[out.suffix.lower()]
    with opened(data, path) as picture:
        lost = _lost_by_decoding(picture)
        transparent = picture.has_transparency_data and not picture.mode.startswith("I")
        keeps = kind in WITH_ALPHA
        if picture.has_transparency_data and not (transparent and keeps):
            lost.append("its transparency")
        pixels = to_rgb(picture, path, on_white=not keeps)
        source = SourcePicture(
            kind,
            pixels,
            mode="L" if picture.mode in GREY_MODES else "RGB",
            grey=all(bool((row == row[:, :1]).all()) for row in pixels),
            alpha=to_alpha(picture) if transparent and keeps else None,
            lost=lost,
        )
        _add_dpi(source, picture)
        _add_profile(source, picture)
        _add_exif(source, picture)
    return source


def _lost_by_decoding(picture: ImageFile.ImageFile) -> list[str]:
    """Of a picture that is opened and not loaded yet."""
    lost = []
    stored = picture.tile[0].args if picture.tile else ""
    if picture.mode.startswith("I") or ";16" in str(stored) or "65535" in str(stored):
        lost.append("16 bits a channel (written with 8)")
    if getattr(picture, "is_animated", False):
        lost.append("all frames but the first")
    if picture.mode == "CMYK":
        lost.append("its CMYK colours (written as RGB)")
    return lost


def _add_dpi(source: SourcePicture, picture: Image.Image) -> None:
    if (dpi := picture.info.get("dpi")) is None:
        return
    if source.kind in WITH_DPI and all(1 <= each < 2**16 for each in dpi):
        source.options["dpi"] = tuple(map(float, dpi))
    else:
        source.lost.append("its resolution")


def _add_profile(source: SourcePicture, picture: Image.Image) -> None:
    profile = picture.info.get("icc_profile")
    if not profile:
        return
    if source.kind in WITH_PROFILE and source.mode in SPACES.get(profile[16:20], ()):
        source.options["icc_profile"] = profile
    else:
        source.lost.append("its colour profile")


def _add_exif(source: SourcePicture, picture: Image.Image) -> None:
    """Without the orientation: the pixels are upright. Those of TIFF describe how it is stored."""
    if "exif" not in picture.info or picture.format == "TIFF":
        return
    try:
        exif = picture.getexif()
        exif.pop(ORIENTATION, None)
        data = exif.tobytes() if len(exif) else b""
    except Exception:  # of damaged EXIF data Pillow raises errors of many kinds
        data = None
    if data == b"":
        return
    if data and source.kind in WITH_EXIF and len(data) <= MOST_EXIF:
        source.options["exif"] = data
    else:
        source.lost.append("its EXIF data")
