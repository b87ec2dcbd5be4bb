"""What pictures are like is told from labels and headers alone, the same every time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsnet.errors import InputError
from pipeline.data.sources import open_source
from pipeline.data.suggest.survey import SAMPLED, survey
from tests.pipeline.data.conftest import encoded, smooth_picture


def test_counts_sizes_and_colours_are_those_of_the_pictures(photos: Path) -> None:
    found = survey(open_source(str(photos), "train"))
    assert found.counts == {"bear": 5, "cat": 5, "dog": 5}
    sizes = [Image.open(path).size for path in photos.glob("*/*")]
    assert found.side == sorted(map(min, sizes))[7]
    assert found.longest == max(map(max, sizes))
    assert (found.pictures, found.sampled, found.grey, found.unreadable) == (15, 15, 0.0, ())


def test_grey_pictures_are_counted_and_unreadable_ones_named(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    grey = Image.fromarray(smooth_picture(8, 8, seed=0)).convert("L")
    for name, content in {
        "1.png": encoded(grey),
        "2.png": encoded(smooth_picture(8, 8, seed=0)),
        "3.png": b"not a picture",
    }.items():
        (tmp_path / "in" / "a" / name).write_bytes(content)
    found = survey(open_source(str(tmp_path / "in"), "train"))
    assert (found.grey, found.sampled) == (0.5, 3)
    (reason,) = found.unreadable
    assert reason.startswith(str(tmp_path / "in" / "a" / "3.png"))
    for name in ("1.png", "2.png"):
        (tmp_path / "in" / "a" / name).unlink()
    with pytest.raises(InputError, match="found none among 1"):
        survey(open_source(str(tmp_path / "in"), "train"))


def test_no_picture_is_decoded_and_no_more_than_a_sample_is_read(tmp_path: Path) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    (tmp_path / "in" / "a").mkdir(parents=True)
    for number in range(SAMPLED + 50):
        (tmp_path / "in" / "a" / f"{number:03}.png").write_bytes(whole[: len(whole) // 2])
    found = survey(open_source(str(tmp_path / "in"), "train"))
    assert (found.side, found.longest, found.unreadable) == (48, 64, ())
    assert (found.sampled, found.pictures) == (SAMPLED, SAMPLED + 50)


def test_pixels_in_three_equal_channels_are_grey() -> None:
    found = survey(open_source("digits", "test"))
    assert (found.side, found.longest, found.grey) == (8, 8, 1.0)
    assert found.pictures == 360
