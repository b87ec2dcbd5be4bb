"""MNIST's IDX files: read as they are, refused in one line before their numbers are believed."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsnet.errors import InputError
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.sources import idx, open_source

SIDES = (5, 4)  # height and width


def idx_file(values: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SIDES), np.uint8)


def write(folder: Path, packed: bool = False, **labels: list[int]) -> Path:
    """A folder with both files of each split in `labels`, plain or gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, numbers in labels.items():
        for name, values in (
            ("images-idx3", pictures(len(numbers))),
            ("labels-idx1", np.array(numbers)),
        ):
            content = idx_file(values)
            path = folder / f"{split}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_idx_files_has_mnists_splits(tmp_path: Path, packed: bool) -> None:
    folder = write(tmp_path, packed, train=[2, 0, 1], t10k=[1, 0])
    train, test = (open_source(str(folder), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (3, 2)
    # Of the labels of both splits: the test images have no 2.
    assert train.classes == test.classes == ("0", "1", "2")
    for index, label in enumerate((2, 0, 1)):
        assert train[index].label == label
        expected = np.stack(3 * [pictures(3)[index]], axis=-1)
        assert np.array_equal(train[index].image, expected)
    with pytest.raises(InputError, match=r"split 'val' .*expected one of test, train"):
        open_source(str(folder), "val")


def test_small_pictures_are_stored_to_the_bit(tmp_path: Path) -> None:
    folder = write(tmp_path, train=[0, 1])
    manifest = ingest(open_source(str(folder), "train"), tmp_path / "train.beton")
    with Loader(
        manifest.beton, LoaderOptions(batch_size=2, recipe="digits", train=False, resolution=4)
    ) as loader:
        (batch,) = loader.epoch(0)
    # Evaluation sees the middle square: four of the five rows.
    rows = [np.array_equal(batch.images[..., 0], pictures(2)[:, top : top + 4]) for top in (0, 1)]
    assert any(rows)
    assert np.array_equal(batch.images[..., 0], batch.images[..., 2])


def test_a_folder_named_fashion_mnist_has_its_classes(tmp_path: Path) -> None:
    folder = write(tmp_path / "fashion-mnist", train=[9], t10k=[0])
    assert open_source(str(folder), "test").classes[9] == "Ankle boot"
    write(folder, train=[10])
    with pytest.raises(InputError, match="expected labels 0 to 9, as Fashion-MNIST has, found 10"):
        open_source(str(folder), "train")


def test_without_debians_package_the_command_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "PACKAGE", tmp_path / "fashion-mnist")
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        open_source("fashion-mnist", "train")
    write(tmp_path / "fashion-mnist", True, train=[3, 1], t10k=[7])
    assert open_source("fashion-mnist", "train").classes[3] == "Dress"


@pytest.mark.skipif(not idx.PACKAGE.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_debians_package_is_fashion_mnist() -> None:
    train, test = (open_source("fashion-mnist", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    # Zalando's mean of the training images, 0.2860 of white.
    assert np.mean([train[i].image.mean() for i in range(0, 60_000, 60)]) / 255 == pytest.approx(
        0.286, abs=0.01
    )
    assert test.classes[test[0].label] == "Ankle boot"


def header(*numbers: int, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, len(numbers))) + struct.pack(f">{len(numbers)}I", *numbers)


HUGE = header(2**32 - 1, 65535, 65535)  # 16 EiB


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("images-idx3", b"", "begins with 00000803, found nothing"),
        ("images-idx3", header(2, 5, 4)[:9], "begins with 00000803"),
        ("images-idx3", header(2, 5, 4, kind=13) + bytes(160), "found 00000d03"),
        ("labels-idx1", idx_file(pictures(2)), "in 1 dimensions, .*found 00000803"),
        (
            "images-idx3",
            HUGE + bytes(40),
            r"4294967295 x 65535 x 65535 come to, found a file of 56",
        ),
        ("images-idx3", idx_file(pictures(2))[:-1], "expected 56 bytes, .*found a file of 55"),
        ("images-idx3", idx_file(pictures(2)) + b"x", "expected 56 bytes, .*found a file of 57"),
        ("images-idx3", header(0, 5, 4), "found 0 of 5 x 4"),
        ("images-idx3", header(2, 0, 4), "found 2 of 0 x 4"),
        ("images-idx3", idx_file(np.zeros((1, 70000, 1))), "found 1 of 70000 x 1"),
        ("labels-idx1", idx_file(np.array([1])), "expected 2 labels, .*found 1"),
    ],
)
def test_files_that_are_not_as_they_say_are_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    folder = write(tmp_path, train=[0, 1])
    (folder / f"train-{name}-ubyte").write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        open_source(str(folder), "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda packed: packed[:-12], "expected a readable IDX file, found"),
        (lambda packed: b"no gzip", "expected a readable IDX file, found"),
        (lambda _: gzip.compress(HUGE + bytes(10_000)), "65535 x 65535 come to, found a file"),
        (lambda _: gzip.compress(header(2, 5, 4) + bytes(39)), "found 55 bytes"),
        (lambda _: gzip.compress(header(2, 5, 4) + bytes(10_000_000)), "found more"),
    ],
)
def test_packed_files_that_are_not_as_they_say_are_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    folder = write(tmp_path, True, train=[0, 1])
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=words) as error:
        open_source(str(folder), "train")[0]
    assert "\n" not in str(error.value)


def test_a_split_without_its_labels_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, train=[0, 1])
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"expected train-labels-idx1-ubyte or .*\.gz in it"):
        open_source(str(folder), "train")


def test_its_fingerprint_changes_with_its_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path, train=[0, 1])
    before = open_source(str(folder), "train").fingerprint()
    assert open_source(str(folder), "train").fingerprint() == before
    write(folder, train=[0, 1, 1])
    assert open_source(str(folder), "train").fingerprint() != before
