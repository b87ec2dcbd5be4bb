"""No picture takes more memory than is said, whatever it declares and however small its file."""

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dsnet.errors import InputError
from dsnet.runtime.pictures import MOST_MEMORY, bytes_per_pixel, opened, read_picture
from dsnet.runtime.pixels import prepare
from pipeline.predict.files import read_input
from tests import forked
from tests.pipeline.data.conftest import encoded

SLACK = 20_000_000  # bytes, for a band that is converted and the file itself
SIDE = 5500  # of a picture that is read several times at once
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "RGBA", {}),
    ("PNG", "RGB", {"exif": TURNED}),
    ("TIFF", "RGB", {"exif": TURNED, "compression": "tiff_adobe_deflate"}),
    ("JPEG", "RGB", {"exif": TURNED}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("WEBP", "RGBA", {"lossless": True, "method": 0}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("JPEG2000", "RGBA", {}),
)


def peak() -> int:
    """Of this process, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def decoded(process: int, folder: Path) -> None:
    kind = KINDS[process][0]
    data = (folder / str(process)).read_bytes()
    with opened(data, kind) as picture:
        said = picture.width * picture.height * bytes_per_pixel(picture, data)
    before = peak()
    read_picture(data, kind)
    assert peak() - before < said + SLACK, f"{KINDS[process]}: {(peak() - before) / said:.2f}"


def test_no_kind_takes_more_than_is_said_of_it(tmp_path: Path) -> None:
    for index, (kind, mode, options) in enumerate(KINDS):
        picture = Image.new(mode, (2400, 2000))
        (tmp_path / str(index)).write_bytes(encoded(picture, kind, **options))
    forked.run(decoded, tmp_path, processes=len(KINDS))


def large_for_threads(process: int, folder: Path) -> None:
    before = peak()
    with pytest.raises(InputError, match=r"up to 57,142,857 pixels, found 11585 x 11585"):
        read_input(str(folder / "bomb.png"), 8, 1.0)
    assert peak() - before < SLACK
    with ThreadPoolExecutor(3) as pool:
        for pixels in pool.map(read_input, 4 * [str(folder / "large.png")], 4 * [8], 4 * [1.0]):
            assert not pixels.any()
    assert peak() - before < 7 * SIDE**2 + SLACK < MOST_MEMORY


def test_pictures_that_are_predicted_take_no_more_together_than_one_may(tmp_path: Path) -> None:
    Image.new("1", (11585, 11585)).save(tmp_path / "bomb.png")  # 134 million pixels
    assert (tmp_path / "bomb.png").stat().st_size < 20_000
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "large.png", compress_level=1)
    forked.run(large_for_threads, tmp_path)


def reduced(process: int, path: Path) -> None:
    before = peak()
    read_input(str(path), 8, 0.5)
    assert peak() - before < SLACK


def test_of_a_jpeg_that_is_too_large_no_more_is_decoded_than_is_needed(tmp_path: Path) -> None:
    corners = np.array([[10, 90], [170, 250]], np.uint8)
    Image.fromarray(corners).resize((7600, 7600), 0).save(tmp_path / "large.jpg")
    seen = read_input(str(tmp_path / "large.jpg"), 8, 0.5)
    expected = prepare(corners.repeat(8, 0).repeat(8, 1)[None, :, :, None].repeat(3, 3), 8, 0.5)
    assert np.abs(seen.astype(int) - expected[0]).max() <= 2
    with pytest.raises(InputError, match=r"up to 57,142,857 pixels, found 7600 x 7600"):
        read_picture((tmp_path / "large.jpg").read_bytes(), "large.jpg")
    forked.run(reduced, tmp_path / "large.jpg")
