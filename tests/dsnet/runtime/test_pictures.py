"""Every kind of picture becomes the RGB that a person sees; a damaged one is refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from dsnet.errors import InputError
from dsnet.runtime import inputs
from dsnet.runtime.pictures import read_picture
from pipeline.data.sources.base import Sample
from pipeline.data.suggest.survey import looked_at
from tests.pipeline.data.conftest import encoded, smooth_picture

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)


def read(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    return read_picture(encoded(picture, kind, **options), "picture")


def test_rgb_is_read_as_it_is() -> None:
    picture = smooth_picture(7, 11, seed=0)
    assert np.array_equal(read(picture), picture)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_has_three_equal_channels(kind: str) -> None:
    grey = np.full((16, 16), 90, np.uint8)
    assert np.array_equal(read(grey, kind), np.full((16, 16, 3), 90))


def test_a_palette_gives_its_colours() -> None:
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(read(palette), COLOURS)


def test_black_and_white_of_one_bit_spans_0_to_255() -> None:
    bits = Image.fromarray(np.array([[True, False]]))
    assert read(bits).tolist() == [[[255] * 3, [0] * 3]]


def test_transparency_lies_on_white() -> None:
    opacity = np.array([[255, 0], [51, 255]], np.uint8)
    picture = Image.fromarray(np.dstack([COLOURS, opacity]))
    # A fifth of blue on white: 0.2 * (0, 0, 255) + 0.8 * (255, 255, 255).
    expected = [[[255, 0, 0], [255, 255, 255]], [[204, 204, 255], [255, 255, 0]]]
    assert read(picture).tolist() == expected


def test_a_palettes_transparent_colour_lies_on_white() -> None:
    palette = Image.new("P", (1, 1))
    palette.putpalette([10, 20, 30])
    assert read(palette, transparency=0).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = np.array([[0, 257, 32768, 65535]], np.uint16)
    assert read(Image.fromarray(grey))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 1] = ink[..., 2] = 255  # magenta and yellow: red
    red = read(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation: int, kind: str) -> None:
    """Pillow's own turn is the independent one. It turns TIFF when it loads them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(smooth_picture(5, 8, seed=0))
    file = encoded(picture, kind, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    if orientation == 6:  # "rotate 90 degrees clockwise to show"
        assert np.array_equal(turned, np.rot90(picture, k=-1))
    assert np.array_equal(read_picture(file, "picture"), turned)
    for given in (Image.open(io.BytesIO(file)), turned):  # as callers of MLflow's way may give it
        assert np.array_equal(inputs.read(given, "picture"), turned)


JPEG_FILE = encoded(smooth_picture(64, 64, seed=1), "JPEG")
PNG_FILE = encoded(smooth_picture(64, 64, seed=1), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        JPEG_FILE[: len(JPEG_FILE) // 2],
        PNG_FILE[: len(PNG_FILE) // 2],
        PNG_FILE[:100] + bytes(50) + PNG_FILE[150:],
        JPEG_FILE[:4] + bytes(300) + JPEG_FILE[304:],
    ],
    ids=["empty", "text", "half a JPEG", "half a PNG", "hole in a PNG", "hole in a JPEG"],
)
def test_a_damaged_file_is_refused_by_name_in_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^folder/cat\.jpg: expected a picture") as caught:
        read_picture(data, "folder/cat.jpg")
    assert "\n" not in str(caught.value)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


def test_a_drawing_is_refused_and_runs_no_other_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow hands what begins like PostScript to Ghostscript, whatever the file's name."""
    gs, ran = tmp_path / "gs", tmp_path / "ran"
    gs.write_text(f"#!/bin/sh\necho 10.0 >> {ran}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(InputError, match=r"^eps\.png: .*not a picture in any known format"):
        read_picture(POSTSCRIPT, "eps.png")
    with pytest.raises(InputError, match=r"^eps\.png: .*not a picture in any known format"):
        looked_at(Sample(POSTSCRIPT, 0, "eps.png"))
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["ICO", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(InputError):
        read(COLOURS.repeat(16, 0).repeat(16, 1), kind)


def test_floating_point_pixels_are_refused() -> None:
    picture = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="floating-point"):
        read(picture, "TIFF")
