"""Sources give the pictures and labels that are there, and say what is wrong where they are not."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dsnet.errors import InputError
from dsnet.runtime.pictures import read_picture
from pipeline.config import Config, Data
from pipeline.data import sources
from pipeline.data.dataset import ingest
from pipeline.data.ingest.ingest import ingest as ingest_source
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Sample, Source
from pipeline.data.sources.walk import picture_suffixes
from tests.pipeline.data.conftest import encoded, smooth_picture

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


def found(source: Source) -> list[tuple[str, str]]:
    """(class, path within the source) of every picture."""
    samples = [source[i] for i in range(len(source))]
    return [(source.classes[s.label], os.path.relpath(s.path, source.name)) for s in samples]


def link(path: Path, to: Path | str) -> None:
    path.symlink_to(to)


@pytest.mark.parametrize("to", ["..", "../..", ".", "../b", "../b/deep", "deeper", "../../.."])
def test_a_link_that_leads_back_is_named_and_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, to: str
) -> None:
    root = folders(tmp_path / "in", "a/1.png", "a/deeper/2.png", "b/3.png", "b/deep/4.png")
    link(root / "a" / "up", to)
    assert found(open_source(str(root), "train")) == [
        ("a", "a/1.png"),
        ("a", "a/deeper/2.png"),
        ("b", "b/3.png"),
        ("b", "b/deep/4.png"),
    ]
    (said,) = caplog.messages
    assert said == f"source {root}: not followed, since they lead back: {root / 'a' / 'up'}"


def test_links_to_elsewhere_are_followed_and_each_folder_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = folders(tmp_path / "store", "cats/1.png", "more/sub/2.png", "3.png")
    root = folders(tmp_path / "in", "dog/4.png")
    link(root / "cat", store / "cats")
    link(root / "dog" / "more", store / "more")
    link(root / "dog" / "same", store / "more" / "sub")
    link(root / "dog" / "5.png", store / "3.png")
    link(store / "more" / "round", store / "more")
    pictures = found(open_source(str(root), "train"))
    assert [label for label, _ in pictures] == ["cat", "dog", "dog", "dog"]
    assert {os.path.basename(path) for _, path in pictures} == {"1.png", "2.png", "4.png", "5.png"}
    assert "lead back" in caplog.text


def two_names(root: Path) -> None:
    link(root / "c", root / "a")


def two_links_to_one(root: Path) -> None:
    store = folders(root.parent / "store", "5.png")
    link(root / "a" / "x", store)
    link(root / "b" / "y", store)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (two_names, r"class folders .*/a and .*/c: .* they share a folder"),
        (two_links_to_one, r"class folders .*/a and .*/b: .* they share a folder"),
        (
            lambda root: link(root / "c", root / "a" / "deep"),
            r"/a and .*/c: .* share a folder|/c and",
        ),
        (lambda root: link(root / "c", "."), r"class folder .*/c: .* around all classes"),
        (lambda root: link(root / "c", ".."), r"class folder .*/c: .* around all classes"),
        (lambda root: link(root / "a" / "7.png", "gone.png"), r"1 to what is not there: .*/7\.png"),
        (lambda root: link(root / "a" / "part", "part"), r"1 to what is not there: .*/a/part"),
    ],
)
def test_links_that_give_a_picture_two_classes_or_none_are_refused(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    root = folders(tmp_path / "in", "a/1.png", "a/deep/2.png", "b/3.png")
    change(root)
    with pytest.raises(InputError, match=words):
        open_source(str(root), "train")


def test_what_is_not_used_is_counted_by_its_kind_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folders(
        tmp_path / "in", "a/1.png", "loose.png", "a/.DS_Store", "a/._1.png", "a/Thumbs.db"
    )
    for name in ("a/2.heic", "a/3.HEIC", "a/deep/4.heic", "a/notes.txt", "a/5", "README.txt"):
        folders(root, name)
    os.mkfifo(root / "a" / "6.png")
    assert found(open_source(str(root), "train")) == [("a", "a/1.png")]
    assert caplog.messages == [
        f"source {root}: 8 files are not used: 3 .heic, 2 .txt, 1 without a suffix, "
        "1 no regular files, 1 pictures in no class folder"
    ]


def test_every_kind_of_picture_that_pillow_writes_is_read(tmp_path: Path) -> None:
    """Also by its less usual names. Pillow writes each of the kinds, whether lossy or not."""
    expected = {".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    expected |= {".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
    assert picture_suffixes() >= expected
    picture = smooth_picture(64, 64, seed=0)
    (tmp_path / "a").mkdir()
    for suffix in picture_suffixes():
        Image.fromarray(picture).save(tmp_path / "a" / f"x{suffix}")
    source = open_source(str(tmp_path), "train")
    assert len(source) == len(picture_suffixes())
    for index in range(len(source)):
        sample = source[index]
        read = read_picture(sample.image, sample.path)
        assert np.abs(read.astype(int) - picture).mean() < 10, sample.path


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
        (
            lambda path: parquet(path, [0, -1]),
            r"split train: expected labels from 0, found -1, .*in 1 of 2 rows; .*data\.test_split",
        ),
        (lambda path: parquet(path, []), "at least one row"),
    ],
)
def test_parquet_that_is_not_as_expected_is_refused(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=words):
        open_source(str(tmp_path), "train")


def test_files_of_a_split_with_other_classes_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "train-0.parquet", [0, 1], {"classes": '["x","y"]'})
    parquet(tmp_path / "train-1.parquet", [0, 1], {"classes": '["y","x"]'})
    with pytest.raises(
        InputError, match=r"train-1\.parquet: .* label 0 is x in the others and y in"
    ):
        open_source(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (["cat", "dog"], ["cat", "eel"], "in train alone: dog; in test alone: eel"),
        (["a", "a", "b"], ["a", "b"], "in train alone: a"),
        (
            ["14"],
            [f"{i:02}" for i in range(15)],
            "in test alone: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 4 more",
        ),
    ],
)
def test_a_test_split_with_other_classes_is_refused_by_their_names_before_anything_is_written(
    tmp_path: Path, first: list[str], second: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=f"{words}$"):
        ingest(split_in_two(tmp_path, first, second))
    assert not (tmp_path / "out").exists()


def split_in_two(folder: Path, train: list[str], test: list[str]) -> Config:
    """Of data with a picture of each class, in Parquet files that name them in this order."""
    for split, names in (("train", train), ("test", test)):
        labels = list(range(len(names)))
        parquet(folder / f"{split}.parquet", labels, {"classes": json.dumps(names)})
    where = {"source": str(folder), "dir": str(folder / "out")}
    chosen = Data.model_construct(**Data().model_dump() | where)
    return Config.model_construct(**dict(Config()) | {"data": chosen})


def test_labels_of_the_test_split_are_matched_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        dataset = ingest(split_in_two(tmp_path, ["ant", "bee", "cow", "dog"], ["dog", "bee"]))
    assert dataset.test.classes == dataset.train.classes == ("ant", "bee", "cow", "dog")
    assert dataset.train.labels().tolist() == [0, 1, 2, 3]
    assert dataset.test.labels().tolist() == [3, 1]
    assert "no picture of ant, cow" in caplog.text


def test_what_archivers_and_notebooks_leave_is_no_class(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "a/1.png", "__MACOSX/a/2.png", ".ipynb_checkpoints/3.png")
    folders(root, "a/__MACOSX/4.png")
    assert found(open_source(str(root), "train")) == [("a", "a/1.png")]


def test_a_fingerprint_changes_with_the_pictures_only(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "a/1.png", "b/1.png")
    before = open_source(str(root), "train").fingerprint()
    assert open_source(str(root), "train").fingerprint() == before
    folders(root, "b/2.png")
    assert open_source(str(root), "train").fingerprint() != before
    file = parquet(tmp_path / "x.parquet", [0, 1])
    before = open_source(str(file), "train").fingerprint()
    parquet(file, [0, 1, 1])
    assert open_source(str(file), "train").fingerprint() != before


def test_a_picture_that_took_the_place_of_another_makes_its_beton_anew(tmp_path: Path) -> None:
    """With its size and times, as rsync, git and archives set them back."""
    folder = folders(tmp_path / "in", "a/1.bmp", "b/1.bmp")
    rows = [f"{name}/1.bmp,{name}\n" for name in "ab"]
    (folder / "list.csv").write_text("path,label\n" + "".join(rows))
    pictures = [folder / name / "1.bmp" for name in "ab"]
    for number, path in enumerate(pictures):
        path.write_bytes(encoded(np.full((4, 4, 3), number, np.uint8), "BMP"))
    sides = parquet(tmp_path / "train.parquet", [0, 1]), parquet(tmp_path / "other.parquet", [1, 0])
    for path in (*pictures, *sides):
        os.utime(path, (0, 0))
    specs = [str(folder), str(folder / "list.csv"), str(sides[0])]
    betons = [tmp_path / f"{number}.beton" for number in range(len(specs))]

    def made(**options: bool) -> list[str]:
        opened = [open_source(spec, "train") for spec in specs]
        return [
            ingest_source(source, beton, **options).digest
            for source, beton in zip(opened, betons, strict=True)
        ]

    before, written = made(), [beton.stat().st_ino for beton in betons]
    assert made() == before and [beton.stat().st_ino for beton in betons] == written
    for first, second in (pictures, sides):
        contents = first.read_bytes(), second.read_bytes()
        for path, content in zip((second, first), contents, strict=True):
            path.write_bytes(content)
            os.utime(path, (0, 0))
    after, written = made(), [beton.stat().st_ino for beton in betons]
    assert all(a != b for a, b in zip(after, before, strict=True))
    assert made(force=True) == after and betons[0].stat().st_ino != written[0]


def test_of_names_that_are_no_utf8_pictures_are_taken_and_classes_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "a/1.png", os.fsdecode(b"b/caf\xe9.png"))
    assert ingest_source(open_source(str(root), "train"), tmp_path / "x.beton").samples == 2
    folders(root, os.fsdecode(b"caf\xe9/1.png"))
    with pytest.raises(InputError, match=r"class names must be text .*found 'caf\\udce9'"):
        open_source(str(root), "train")
    spec = str(folders(tmp_path / os.fsdecode(b"caf\xe9"), "a/1.png"))
    with pytest.raises(InputError, match=r"caf\\udce9: expected a path in UTF-8"):
        open_source(spec, "train")


def test_what_lies_beside_the_folders_of_splits_is_counted(tmp_path: Path) -> None:
    root = folders(tmp_path / "in", "train/a/1.png", "val/a/1.png", "b/1.png", "2.png")
    assert open_source(str(root), "train").unused == {"folders": 1, ".png": 1}


class Stripes(Source):
    """A kind of source that the project knows nothing of: horizontal or vertical."""

    name, split = "stripes", "train"
    classes = ("horizontal", "vertical")
    EXPECTED = "the word stripes"

    @classmethod
    def opened(cls, spec: str, split: str) -> "Stripes | None":
        return cls() if spec == "stripes" else None

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[::2] = 255
        label = index % 2
        return Sample(pixels.transpose(1, 0, 2) if label else pixels, label, f"stripes[{index}]")

    def fingerprint(self) -> str:
        return "stripes"


def test_a_kind_of_source_is_a_file_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SOURCES", [*sources.SOURCES, Stripes])
    manifest = ingest_source(open_source("stripes", "train"), tmp_path / "stripes.beton")
    with Loader(
        manifest.beton, LoaderOptions(batch_size=6, recipe="digits", train=False, resolution=8)
    ) as loader:
        (batch,) = loader.epoch(0)
    assert batch.labels.tolist() == [0, 1, 0, 1, 0, 1]
    expected = np.stack([Stripes()[index].image for index in range(6)])
    assert np.array_equal(batch.images.numpy(), expected)
    with pytest.raises(InputError, match=r"expected the word stripes, a folder, .*found no such"):
        open_source("nowhere", "train")
