"""Pictures without labels, patches of their own pixels, and tiles that cover them."""

import pickle
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
from pipeline.config import Data
from pipeline.data.beton_format import RAW
from pipeline.data.ingest.bad_pictures import BadPictures
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest
from pipeline.data.random_bits import random_key, streams, uniforms
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Sample, Source
from pipeline.data.sources.tiles import Tiles
from pipeline.data.sources.train_and_test import train_and_test
from tests.pipeline.data.conftest import encoded, smooth_picture


class Arrays(Source):
    """A source of pixels."""

    name, split, classes = "arrays", "train", ("pictures",)

    def __init__(self, *pictures: np.ndarray) -> None:
        self.pictures = pictures
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        return Sample(self.pictures[index], 0, f"arrays[{index}]")

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int64)

    def fingerprint(self) -> str:
        return "arrays"


def flat(folder: Path, *names: str) -> Path:
    """Pictures of 60 x 40 pixels below a folder."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth_picture(40, 60, seed)))
    return folder


@given(
    sizes=st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=3),
    side=st.integers(8, 12),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_tiles_put_together_are_the_pictures(
    sizes: list[tuple[int, int]], side: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    pictures = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    large = [each for each in pictures if min(each.shape[:2]) >= side]
    tiles = Tiles(Arrays(*large), side)
    assert (
        len(tiles)
        == len(tiles.labels())
        == sum(-(-each.shape[0] // side) * -(-each.shape[1] // side) for each in large)
    )
    again = [np.zeros_like(each) for each in large]
    covered = [np.zeros(each.shape[:2], int) for each in large]
    for index in range(len(tiles)):
        sample = tiles[index]
        name, corner = sample.path.split("][")[0].split("[")[1], sample.path.split("][")[-1]
        number = int(name)
        top, left = map(int, corner.rstrip("]").split(", "))
        place = (slice(top, top + side), slice(left, left + side))
        again[number][place] = sample.image
        covered[number][place] += 1
    for picture, made, times in zip(large, again, covered, strict=True):
        assert np.array_equal(made, picture)
        assert times.min() == 1


def test_a_picture_smaller_than_a_tile_is_bad_and_named(tmp_path: Path) -> None:
    folder = flat(tmp_path / "photos", "a.png", "b.png")
    (folder / "small.png").write_bytes(encoded(smooth_picture(20, 60, 9)))
    (folder / "broken.png").write_bytes(b"no picture")
    tiles = Tiles(open_source(str(folder), "train", labelled=False), 32)
    assert len(tiles) == 2 * 4 + 1 + 1
    with pytest.raises(InputError, match=r"photos"):
        ingest(tiles, tmp_path / "x.beton", max_bad=0.49)  # of four pictures
    made = ingest(tiles, tmp_path / "x.beton", max_bad=0.5)
    assert made.samples == 8 and made.left_out == 2
    assert sum("at least 32 pixels a side" in why for why in made.left_out_for) == 1
    assert made.options.items() >= {"write_mode": "raw", "tile": 32, "pictures": 4}.items()
    again = ingest(tiles, tmp_path / "x.beton", max_bad=0.5)
    assert again == made, "it was there"
    with pytest.raises(InputError, match="at most 1 of 4 pictures"):
        ingest(tiles, tmp_path / "x.beton", max_bad=0.25)


def declared(width: int, height: int) -> bytes:
    """A PNG that declares so many pixels and has none."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "tiles"),
    [(declared(30_000, 30_000), 1), (encoded(smooth_picture(96, 96, 1), "JPEG")[:-400], 9)],
    ids=["a header that declares too much", "pixels that are cut short"],
)
def test_whatever_does_not_decode_is_one_bad_picture(
    content: bytes, tiles: int, tmp_path: Path
) -> None:
    folder = flat(tmp_path / "photos", "a.png", "c.png")
    (folder / "b.jpg").write_bytes(content)
    source = Tiles(open_source(str(folder), "train", labelled=False), 32)
    assert len(source) == 4 + tiles + 4
    made = ingest(source, tmp_path / "x.beton", max_bad=0.34)  # one of three
    assert (made.samples, made.left_out, len(made.left_out_for)) == (8, 1, 1)
    assert "b.jpg" in made.left_out_for[0]
    assert ingest(source, tmp_path / "x.beton", max_bad=0.34) == made, "it was there"


def test_a_picture_that_goes_bad_between_its_tiles_is_counted(tmp_path: Path) -> None:
    class Changing(Arrays):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            if index == 0 and self.read.count(0) > 2:  # measured, decoded, and decoded again
                raise InputError("arrays[0]: gone")
            return sample

    tiles = Tiles(Changing(*[smooth_picture(64, 64, seed) for seed in range(3)]), 32)
    bad = BadPictures("arrays", 3, 0.9)
    for index in (0, 4, 8, 1, 2, 9):  # decoded are the last two pictures
        try:
            tiles[index]
        except InputError as error:
            bad.add(error)
    assert (bad.count, bad.reasons) == (1, ["arrays[0]: gone"])


def test_a_picture_is_decoded_once_however_many_threads_ask() -> None:
    pictures = [smooth_picture(256, 256, seed) for seed in range(4)]
    source = Arrays(*pictures)
    tiles = Tiles(source, 32)
    assert len(tiles) == 4 * 64
    source.read.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [
            tile
            for first in range(0, len(tiles), 64)
            for tile in pool.map(tiles.__getitem__, range(first, first + 64))
        ]
    assert source.read == [0, 1, 2, 3]
    assert np.array_equal(found[-1].image, pictures[3][224:, 224:])
    assert np.array_equal(pickle.loads(pickle.dumps(tiles))[65].image, found[65].image)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_an_upright_photograph_is_cut_as_it_is_shown(kind: str, tmp_path: Path) -> None:
    picture = Image.fromarray(smooth_picture(40, 60, 0))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn
    (tmp_path / "p").mkdir()
    path = tmp_path / f"p/turned.{kind.lower()}"
    path.write_bytes(encoded(picture, kind, exif=exif))
    source = open_source(str(tmp_path / "p"), "train", labelled=False)
    whole = read_picture(path.read_bytes(), "turned")
    assert whole.shape == (60, 40, 3)
    tiles = Tiles(source, 30)
    assert len(tiles) == 4
    assert np.array_equal(tiles[3].image, whole[30:, 10:])


def test_a_flat_folder_is_a_source_for_what_learns_no_labels(tmp_path: Path) -> None:
    folder = flat(tmp_path / "photos", "b.png", "a.png", "more/c.png")
    (folder / "notes.txt").write_text("no picture")
    source = open_source(str(folder), "train", labelled=False)
    assert [Path(source[i].path).name for i in range(3)] == ["a.png", "b.png", "c.png"]
    assert source.classes == ("pictures",) and source.labels().tolist() == [0, 0, 0]
    assert source.unused == {".txt": 1}
    with pytest.raises(InputError, match="one folder of pictures per class"):
        open_source(str(flat(tmp_path / "loose", "a.png")), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected pictures, found none"):
        open_source(str(tmp_path / "empty"), "train", labelled=False)


def test_parquet_without_labels_is_a_source_for_what_learns_none(tmp_path: Path) -> None:
    pictures = [encoded(smooth_picture(40, 60, seed)) for seed in range(3)]
    column = pa.array([{"bytes": data, "path": None} for data in pictures])
    path = str(tmp_path / "train.parquet")
    pq.write_table(pa.table({"image": column}), path, row_group_size=2)
    source = open_source(path, "train", labelled=False)
    assert source.classes == ("pictures",) and source.labels().tolist() == [0, 0, 0]
    assert [source[i].image for i in range(3)] == pictures
    with pytest.raises(InputError, match="and label: int64, found image"):
        open_source(path, "train")
    pq.write_table(pa.table({"image": column, "label": [0, 1, 7]}), path)
    assert open_source(path, "train", labelled=False).classes == ("pictures",)


def test_whole_pictures_are_held_out_and_then_cut(tmp_path: Path) -> None:
    folder = flat(tmp_path / "photos", *(f"{i}.png" for i in range(5)))
    data = Data(source=str(folder), recipe="patches", resolution=16, tile=20, test_share=0.4)
    train, test = train_and_test(data, labelled=False)
    paths = [{source[i].path.split("[")[0] for i in range(len(source))} for source in (train, test)]
    assert (len(paths[0]), len(paths[1])) == (3, 2) and not paths[0] & paths[1]
    assert (len(train), len(test)) == (3 * 6, 2 * 6)


def test_tiles_are_not_cut_out_of_pictures_that_were_made_smaller() -> None:
    with pytest.raises(ValidationError, match=r"data\.max_resolution"):
        Data(source="photographs", recipe="patches", resolution=16, tile=20, max_resolution=64)


def test_splits_of_ones_own_are_taken(tmp_path: Path) -> None:
    folder = flat(tmp_path / "photos", "train/a.png", "train/x/b.png", "val/c.png")
    data = Data(source=str(folder), recipe="patches", resolution=16)
    train, test = train_and_test(data, labelled=False)
    assert (len(train), len(test), test.split) == (2, 1, "val")


def test_the_photographs_come_with_packages_and_are_stored_without_loss(tmp_path: Path) -> None:
    train, test = (open_source("photographs", split) for split in ("train", "test"))
    names = [{Path(s[i].path).name for i in range(len(s))} for s in (train, test)]
    assert names[1] == {"camera.png", "chelsea.png", "coffee.png"}
    assert len(names[0]) == 13 and not names[0] & names[1]
    for source in (train, test):
        for index in range(len(source)):
            sample = source[index]
            assert isinstance(sample.image, bytes)
            assert min(read_picture(sample.image, sample.path).shape[:2]) >= 300
    assert train.fingerprint() != test.fingerprint()
    with pytest.raises(InputError, match="expected one of test, train"):
        open_source("photographs", "val")
    made = ingest(test, tmp_path / "test.beton")
    assert set(made.records()["f0"]["mode"]) == {RAW}


@pytest.mark.parametrize(
    ("package", "project"),
    [("matplotlib", "matplotlib"), ("skimage", "scikit-image"), ("sklearn", "scikit-learn")],
)
def test_without_a_package_it_is_said_how_to_come_by_the_photographs(
    package: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as Python has what is not to be found
    with pytest.raises(InputError, match=rf"{project}.*pip install 'dsnet\[pipeline\]'"):
        open_source("photographs", "train")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, list[np.ndarray]]:
    """Random pixels of three sizes, stored as they are."""
    random = np.random.default_rng(1)
    sizes = [(24, 24), (31, 50), (64, 27)]
    pictures = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    dest = tmp_path_factory.mktemp("patches") / "train.beton"
    return ingest(Arrays(*pictures), dest, write_mode="raw"), pictures


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_patch_is_cut_turned_and_mirrored_by_its_counters(
    stored: tuple[Manifest, list[np.ndarray]], seed: int, shuffled: bool
) -> None:
    """Against NumPy's slices, from the same random numbers."""
    manifest, pictures = stored
    recipe = "patches" if shuffled else {"base": "patches", "shuffle_channels": False}
    how = {"recipe": recipe, "resolution": 24, "batch_size": 3, "seed": seed, "exact": True}
    with Loader(manifest.beton, LoaderOptions(train=True, **how)) as loader:
        (batch,) = loader.epoch(5, view=2)
    keys = np.repeat(random_key(seed, 5, 2), 3)
    assert batch.keys.numpy().view(np.uint64).tolist() == streams(keys, np.arange(3)).tolist()
    drawn = uniforms(keys, np.arange(3), np.arange(40, 48))
    for picture, found, numbers in zip(pictures, batch.images.numpy(), drawn, strict=True):
        mirrored, _, _, across, down, flipped, transposed, order = numbers
        top = int(down * (picture.shape[0] - 23))
        left = int(across * (picture.shape[1] - 23))
        patch = picture[top : top + 24, left : left + 24]
        patch = patch[:, ::-1] if mirrored < 0.5 else patch
        patch = patch[::-1] if flipped < 0.5 else patch
        patch = patch.transpose(1, 0, 2) if transposed < 0.5 else patch
        channels = [(0, 1, 2), (0, 2, 1), (1, 2, 0), (1, 0, 2), (2, 0, 1), (2, 1, 0)]
        patch = patch[..., channels[int(6 * order)]] if shuffled else patch
        assert np.array_equal(found, patch)


def test_an_evaluation_sees_the_middle_and_keys_without_the_seed(
    stored: tuple[Manifest, list[np.ndarray]],
) -> None:
    manifest, pictures = stored
    found = []
    for seed in (0, 7):
        how = {"recipe": "patches", "resolution": 24, "batch_size": 3, "seed": seed}
        with Loader(manifest.beton, LoaderOptions(train=False, **how)) as loader:
            (batch,) = loader.epoch(0)
        found.append(batch.keys.tolist())
        for picture, seen in zip(pictures, batch.images.numpy(), strict=True):
            top, left = ((side - 23) // 2 for side in picture.shape[:2])
            assert np.array_equal(seen, picture[top : top + 24, left : left + 24])
    assert found[0] == found[1] and len(set(found[0])) == 3


def test_pictures_smaller_than_a_patch_are_named_before_anything_is_read(
    stored: tuple[Manifest, list[np.ndarray]],
) -> None:
    manifest, _ = stored
    with pytest.raises(InputError, match=r"at least 28 pixels.* 2 smaller.*sample 0 of 24 x 24"):
        Loader(
            manifest.beton, LoaderOptions(train=True, recipe="patches", resolution=28, batch_size=3)
        )
