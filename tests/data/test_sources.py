"""Sources give the pictures and labels that are there, and say what is wrong where they are not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from dsnet.errors import InputError
from pipeline.data.sources import ParquetFiles, open_source

from .conftest import encoded, smooth_picture

PNG = encoded(smooth_picture(4, 4, seed=0))


def folders(root: Path, *paths: str) -> Path:
    """A folder with a small picture at each path; an empty folder where it ends in a slash."""
    root.mkdir(exist_ok=True)
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(PNG)
    return root


def parquet(path: Path, labels: list[int | None], metadata: dict[str, str] | None = None) -> Path:
    """A Parquet file of pictures whose first pixel is their row, in row groups of four."""
    images = [
        {"bytes": encoded(np.full((2, 2, 3), row, np.uint8)), "path": f"{row}.png"}
        for row in range(len(labels))
    ]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)
    pq.write_table(pa.table({"image": images, "label": labels}, schema), path, row_group_size=4)
    return path


def test_the_digits_test_split_is_a_stratified_fifth_and_the_rest_is_for_training() -> None:
    train, test = open_source("digits", "train"), open_source("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    scans, labels = load_digits(return_X_y=True)
    numbers = {}
    for source in (train, test):
        for index in range(len(source)):
            sample = source[index]
            number = int(sample.path[7:-1])
            numbers[number] = source.split
            assert sample.label == labels[number]
            assert np.array_equal(
                sample.image[..., 1], np.rint(scans[number] * 255 / 16).reshape(8, 8)
            )
    assert sorted(numbers) == list(range(1797))
    in_test = np.array([numbers[i] == "test" for i in range(1797)])
    shares = np.bincount(labels[in_test]) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 1 / np.bincount(labels).min()


def test_classes_are_the_folders_in_order_and_other_files_are_ignored(tmp_path: Path) -> None:
    root = folders(
        tmp_path / "in", "b/2.PNG", "b/1.jpeg", "a/deep/x.png", "b/.hidden.png", ".d/y.png"
    )
    (root / "b" / "notes.txt").write_text("not a picture")
    source = open_source(str(root), "train")
    assert source.classes == ("a", "b")
    found = [(Path(source[i].path).name, source[i].label) for i in range(len(source))]
    assert found == [("x.png", 0), ("1.jpeg", 1), ("2.PNG", 1)]
    assert source[0].image == PNG


def test_a_split_is_the_folder_of_that_name(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "train/a/1.png", "train/a/2.png", "val/a/1.png")
    assert [len(open_source(str(root), split)) for split in ("train", "val")] == [2, 1]
    assert len(open_source(str(root / "val"), "val")) == 1
    with pytest.raises(InputError, match=r"split 'test' .*expected one of train, val"):
        open_source(str(root), "test")


def test_a_folder_of_classes_alone_never_serves_as_its_own_test_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split 'test' .*expected one of train"):
        open_source(str(folders(tmp_path / "in", "a/1.png")), "test")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], "found no picture at all"),
        (["a/", "b/"], "found no picture at all"),
        (["1.png", "2.png"], "found 2 pictures in no class folder"),
        (["a/1.png", "b/"], r"class folder .*/b: expected at least one picture"),
    ],
)
def test_a_folder_without_pictures_is_refused(tmp_path: Path, paths: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(str(folders(tmp_path / "in", *paths)), "train")


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(str(tmp_path / "nowhere"), "train")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"another kind of file \(\.txt\)"):
        open_source(str(tmp_path / "notes.txt"), "train")
    with pytest.raises(InputError, match="expected one of test, train"):
        open_source("digits", "val")


def test_parquet_gives_rows_across_row_groups_and_files(tmp_path: Path) -> None:
    parquet(
        tmp_path / "train-00000-of-00002.parquet", [0, 1, 2, 0, 1, 2], {"classes": '["x","y","z"]'}
    )
    parquet(tmp_path / "train-00001-of-00002.parquet", [2, 1])
    parquet(tmp_path / "test.parquet", [0])
    source = open_source(str(tmp_path), "train")
    assert source.classes == ("x", "y", "z")
    assert [source[i].label for i in range(len(source))] == [0, 1, 2, 0, 1, 2, 2, 1]
    names = [source[i].path.split("(")[1] for i in range(len(source))]
    assert names == [f"{row}.png)" for row in (0, 1, 2, 3, 4, 5, 0, 1)]
    with pytest.raises(InputError, match=r"expected one of test, train"):
        open_source(str(tmp_path), "val")


@pytest.mark.parametrize(
    ("metadata", "classes"),
    [
        (None, ("0", "1")),
        (
            {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["n", "p"]}}}})},
            ("n", "p"),
        ),
    ],
)
def test_parquet_class_names(
    tmp_path: Path, metadata: dict[str, str] | None, classes: tuple[str, ...]
) -> None:
    source = open_source(str(parquet(tmp_path / "x.parquet", [1, 0], metadata)), "train")
    assert source.classes == classes


def no_label(path: Path) -> None:
    pq.write_table(pa.table({"image": ["a"], "lable": [1]}), path)


def damaged(path: Path) -> None:
    path.write_bytes(b"PAR1 and nothing else")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (no_label, "expected columns image: .*, found image: string, lable: int64"),
        (damaged, "expected a Parquet file"),
        (lambda path: parquet(path, [0, None]), "found 1 without one"),
        (lambda path: parquet(path, [0, -1]), "row 1, column label: expected 0 to 0, found -1"),
        (lambda path: parquet(path, []), "at least one row"),
    ],
)
def test_parquet_that_is_not_as_expected_is_refused(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=words):
        open_source(str(tmp_path), "train")


def test_a_fingerprint_changes_with_the_pictures_only(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "a/1.png", "b/1.png")
    before = open_source(str(root), "train").fingerprint()
    assert open_source(str(root), "train").fingerprint() == before
    folders(root, "b/2.png")
    assert open_source(str(root), "train").fingerprint() != before
    file = parquet(tmp_path / "x.parquet", [0, 1])
    before = ParquetFiles([file], "train").fingerprint()
    parquet(file, [0, 1, 1])
    assert ParquetFiles([file], "train").fingerprint() != before
