"""Pictures in training and in test: counted by their pixels, warned of, and read once."""

import logging
from pathlib import Path

import numpy as np
import pytest

from dsnet.io.files import sha256
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.data.manifest import manifest_path, read_manifest
from tests.pipeline.data.conftest import encoded, smooth_picture


def written(root: Path, split: str, seeds: list[int], side: int = 90, kind: str = "PNG") -> None:
    """Pictures in two classes; each seed its own."""
    for number, seed in enumerate(seeds):
        path = root / split / "ab"[number % 2] / f"{split}{number}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth_picture(side, side + 1, seed), kind))


def config(root: Path) -> Config:
    return config_from_dict(
        {
            "data": {"source": str(root / "in"), "dir": str(root / "out"), "recipe": "cifar"},
            "model": {"arch": "ds_mbnet_cifar"},
        }
    )


@pytest.mark.parametrize("side", [20, 90])  # stored as pixels, and as JPEG
def test_equal_pixels_in_both_splits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int
) -> None:
    written(tmp_path / "in", "train", list(range(10)), side)
    written(tmp_path / "in", "test", [50, 3, 51, 52, 8, 53], side, kind="BMP")
    found = ingest(config(tmp_path))
    assert found.test.in_common == 2
    assert "2 of 6 pictures of test are in train too" in caplog.text
    assert found.test == read_manifest(found.test.beton)


def test_it_is_asked_once_and_again_when_the_training_pictures_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    written(tmp_path / "in", "train", list(range(4)))
    written(tmp_path / "in", "test", [7, 8])
    found = ingest(config(tmp_path))
    assert (found.test.in_common, caplog.text) == (0, "")
    before = manifest_path(found.test.beton).stat().st_mtime_ns
    assert ingest(config(tmp_path)) == found
    assert manifest_path(found.test.beton).stat().st_mtime_ns == before
    digest = sha256(found.test.beton)
    written(tmp_path / "in", "train", list(range(4, 9)))
    again = ingest(config(tmp_path))
    assert (again.test.in_common, again.test.compared_with) == (2, again.train.digest)
    assert sha256(again.test.beton) == digest == again.test.digest


def test_pictures_of_other_sides_are_not_equal(tmp_path: Path) -> None:
    """The same bytes may be a wide picture and a tall one."""
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8)
    for split, shape in (("train", (4, 6, 3)), ("test", (6, 4, 3))):
        path = tmp_path / "in" / split / "a" / "x.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(pixels.reshape(shape)))
    assert ingest(config(tmp_path)).test.in_common == 0
