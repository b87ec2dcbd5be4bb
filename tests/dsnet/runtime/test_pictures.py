"""Every kind of picture becomes the RGB that a person sees; a damaged one is refused by name."""

import numpy as np
import pytest
from PIL import Image

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
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


def test_exif_orientation_turns_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to show"
    assert np.array_equal(read(COLOURS, exif=exif), np.rot90(COLOURS, k=-1))


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


def test_floating_point_pixels_are_refused() -> None:
    picture = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="floating-point"):
        read(picture, "TIFF")
