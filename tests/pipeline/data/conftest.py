"""Pictures and betons that several tests read."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsnet.io.files import sha256
from pipeline.data.ingest.ingest import ingest
from pipeline.data.manifest import Manifest, manifest_path
from pipeline.data.sources import open_source


def smooth_picture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (height, width, 3) without sharp edges, as JPEG likes them; each seed its own."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture file's bytes."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def copy_of(manifest: Manifest, folder: Path, name: str = "x.beton") -> Path:
    """A beton and its manifest, to damage."""
    shutil.copy(manifest.beton, folder / name)
    shutil.copy(manifest_path(manifest.beton), manifest_path(folder / name))
    return folder / name


def fit_manifest(beton: Path, **changes: object) -> None:
    """Make the manifest describe the bytes that are there, so that only the bounds stand."""
    content = json.loads(manifest_path(beton).read_text())
    content |= {"digest": sha256(beton), "size": beton.stat().st_size} | changes
    manifest_path(beton).write_text(json.dumps(content))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 3 class folders with 15 pictures of 20 to 420 pixels, wide and tall."""
    folder = tmp_path_factory.mktemp("photos")
    sides = np.random.default_rng(0).integers(20, 421, (15, 2))
    for index, (height, width) in enumerate(sides):
        kind = ("JPEG", "PNG")[index % 2]
        path = folder / ("bear", "cat", "dog")[index % 3] / f"{index:02}.{kind.lower()}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(smooth_picture(height, width, index), kind))
    return folder


@pytest.fixture(scope="session")
def photos_jpeg(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The photos, stored as JPEG."""
    dest = tmp_path_factory.mktemp("betons") / "jpeg.beton"
    return ingest(open_source(str(photos), "train"), dest, write_mode="jpg", quality=95)


@pytest.fixture(scope="session")
def photos_raw(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The photos, stored as pixels."""
    dest = tmp_path_factory.mktemp("betons") / "raw.beton"
    return ingest(open_source(str(photos), "train"), dest, write_mode="raw")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The digits' test split: 360 pictures of 8x8."""
    return ingest(open_source("digits", "test"), tmp_path_factory.mktemp("betons") / "test.beton")
