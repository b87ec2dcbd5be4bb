"""Tar shards, lists and Parquet: the same pictures as in folders, by the same splits."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dsnet.errors import InputError
from pipeline.data.ingest.ingest import ingest
from pipeline.data.sources import open_source
from pipeline.data.sources.shards import found
from tests.pipeline.data.conftest import encoded, smooth_picture

PNG = encoded(smooth_picture(4, 4, seed=0))


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    """A tar file of these, in order."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def listed_in(folder: Path) -> list[tuple[str, str]]:
    """Path and class of every picture below class folders, in the order of the source's."""
    return [(str(p), p.parent.name) for p in sorted(folder.glob("*/*"))]


def as_tar(photos: Path, folder: Path) -> Path:
    members = []
    for number, (path, name) in enumerate(listed_in(photos)):
        suffix = Path(path).suffix
        members += [
            (f"{number:05}{suffix}", Path(path).read_bytes()),
            (f"{number:05}.cls", name.encode()),
        ]
    for shard, start in enumerate(range(0, len(members), 8)):
        tar(folder / f"photos-train-{shard:03}.tar", *members[start : start + 8])
    return folder


def as_numbered_tar(photos: Path, folder: Path) -> Path:
    names = sorted({name for _, name in listed_in(photos)})
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    members = []
    for number, (path, name) in enumerate(listed_in(photos)):
        members += [
            (f"a/{number:05}.cls", str(names.index(name)).encode()),
            (f"a/{number:05}.json", b"{}"),
            (f"a/{number:05}{Path(path).suffix.upper()}", Path(path).read_bytes()),
        ]
    return tar(folder / "all.tar", *members)


def as_csv(photos: Path, folder: Path) -> Path:
    rows = [f'"{path}",{name}' for path, name in listed_in(photos)]
    (folder / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return folder / "list.csv"


def as_parquet_list(photos: Path, folder: Path) -> Path:
    paths, names = zip(*listed_in(photos), strict=True)
    table = pa.table({"path": paths, "label": pa.array(names).dictionary_encode()})
    pq.write_table(table, folder / "list.parquet")
    return folder / "list.parquet"


def as_parquet(photos: Path, folder: Path) -> str:
    names = sorted({name for _, name in listed_in(photos)})
    rows = [
        {"image": {"bytes": Path(path).read_bytes(), "path": None}, "label": names.index(name)}
        for path, name in listed_in(photos)
    ]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())])
    schema = schema.with_metadata({"classes": str(names).replace("'", '"')})
    for part in range(2):
        table = pa.Table.from_pylist(rows[part * 8 : part * 8 + 8], schema)
        pq.write_table(table, folder / f"train-{part:05}-of-00002.parquet")
    return str(folder / "train-*.parquet")


@pytest.mark.parametrize("laid_out", [as_tar, as_numbered_tar, as_csv, as_parquet_list, as_parquet])
def test_the_same_pictures_give_the_same_beton(
    photos: Path, tmp_path: Path, laid_out: Callable[[Path, Path], Path | str]
) -> None:
    (tmp_path / "in").mkdir()
    spec = str(laid_out(photos, tmp_path / "in"))
    expected = ingest(open_source(str(photos), "train"), tmp_path / "folders.beton")
    source = open_source(spec, "train")
    made = ingest(source, tmp_path / "other.beton")
    assert made.classes == expected.classes
    assert made.digest == expected.digest
    assert source.labels().tolist() == made.labels().tolist()
    assert open_source(spec, "train").fingerprint() == source.fingerprint()


def test_a_split_is_a_word_of_its_files_names(tmp_path: Path) -> None:
    for name in ("train-00000-of-2", "imagenet_train_1", "test", "straining-0", "notes"):
        (tmp_path / f"{name}.tar").touch()
    names = [path.stem for path in found(str(tmp_path), ".tar", "train")]
    assert names == ["imagenet_train_1", "train-00000-of-2"]
    assert [path.stem for path in found(f"{tmp_path}/*.tar", ".tar", "test")] == ["test"]
    assert found(str(tmp_path), ".csv", "train") == []
    with pytest.raises(InputError, match="expected one of test, train"):
        found(str(tmp_path), ".tar", "val")


def test_files_of_no_split_are_for_training_and_folders_are_splits(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "0000.tar").touch()
    assert len(found(str(tmp_path / "plain"), ".tar", "train")) == 1
    with pytest.raises(InputError, match="expected one of train; found no"):
        found(str(tmp_path / "plain"), ".tar", "test")
    (tmp_path / "both" / "val").mkdir(parents=True)
    (tmp_path / "both" / "val" / "0.tar").touch()
    assert len(found(str(tmp_path / "both"), ".tar", "val")) == 1


SHARDS = {
    "no label": ((("a.png", PNG), ("b.cls", b"1")), "a.png: .* found no label"),
    "no picture": ((("a.cls", b"1"), ("a.txt", b"")), "found no picture"),
    "two pictures": ((("a.png", PNG), ("a.jpg", PNG)), "one picture for each sample"),
    "empty label": ((("a.cls", b" \n"), ("a.png", PNG)), "a.cls: expected a label, found none"),
    "long label": ((("a.cls", b"1" * 1001), ("a.png", PNG)), "up to 1,000 bytes, found 1,001"),
    "no text": ((("a.cls", b"\xff"), ("a.png", PNG)), "UTF-8"),
    "nothing": ((("a.txt", b"1"),), "at least one sample, .*found none but 1 .txt"),
    "dots": (
        (("2024.05.png", PNG), ("2024.05.cls", b"1")),
        r"no dot in KEY, found none but 1 \.png with a dot in the key, 1 \.cls with a dot in",
    ),
    "two labels": ((("a.cls", b"1"), ("a.CLS", b"2")), "a.CLS: expected one label"),
}


@pytest.mark.parametrize("case", SHARDS)
def test_a_shard_of_another_layout_is_refused(tmp_path: Path, case: str) -> None:
    members, message = SHARDS[case]
    tar(tmp_path / "x.tar", *members)
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "x.tar"), "train")


def test_a_packed_or_cut_shard_is_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path / "x.tar", ("a.png", PNG), ("a.cls", b"0"), ("b.png", PNG * 50))
    content = whole.read_bytes()
    whole.write_bytes(content[: 3 * 512 + 2048])
    with pytest.raises(InputError, match="a part of one"):
        open_source(str(whole), "train")
    with tarfile.open(tmp_path / "y.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(InputError, match="without compression"):
        open_source(str(tmp_path / "y.tar"), "train")


def test_a_size_below_nothing_does_not_read_for_ever(tmp_path: Path) -> None:
    """A header may declare any size, in base 256 a negative one too."""
    path = tar(tmp_path / "x.tar", ("a.cls", b"0"), ("a.png", PNG))
    content = bytearray(path.read_bytes())
    header = content[1024 : 1024 + 512]
    header[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    content[1024 : 1024 + 512] = header
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_source(str(path), "train")


def test_numbers_without_names_are_their_own_and_007_is_a_name(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    numbers, names = tmp_path / "numbers.csv", tmp_path / "names.csv"
    numbers.write_text("label,path,more\n2,a.png,x\n0,./a.png,y\n")
    names.write_text("path,label\na.png,007\n")
    assert open_source(str(numbers), "train").classes == ("0", "1", "2")
    assert open_source(str(numbers), "train")[0].label == 2
    assert open_source(str(names), "train").classes == ("007",)


def test_what_is_not_used_of_a_shard_or_beside_it_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key ends at the first dot: that of the second picture is not 1.5x."""
    members = [("0.png", PNG), ("0.cls", b"0"), ("0.json", b"{}")]
    tar(tmp_path / "train.tar", *members, ("1.5x.png", PNG), ("1.5x.cls", b"0"))
    tar(tmp_path / "test.tar", ("0.png", PNG), ("0.cls", b"0"))
    tar(tmp_path / "unlabelled.tar", ("0.png", PNG))
    (tmp_path / "cats").mkdir()
    source = open_source(str(tmp_path), "train")
    assert len(source) == 1
    counted = {"folders": 1, ".tar": 1, ".json": 1}
    counted |= {f"{kind} with a dot in the key": 1 for kind in (".png", ".cls")}
    assert source.unused == counted
    (said,) = caplog.messages
    assert said.startswith(f"source {tmp_path}: 5 files are not used: ")


def test_pictures_that_no_list_names_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"{number}.png").write_bytes(PNG)
    (tmp_path / "in" / "notes.txt").touch()
    for split, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        rows = [f"in/{number}.png,{number % 2}\n" for number in numbers]
        (tmp_path / f"{split}.csv").write_text("path,label\n" + "".join(rows))
    for spec in (tmp_path, tmp_path / "train.csv"):
        counted = open_source(str(spec), "train").unused
        assert counted == {"pictures in no list": 2, ".txt": 1}


def test_the_folder_around_that_of_the_files_is_a_source_too(tmp_path: Path) -> None:
    """As Hugging Face lays a repository out."""
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").touch()
    for split in ("train", "validation"):
        shard = tar(
            tmp_path / "data" / f"{split}-00000-of-00001.tar", ("a.png", PNG), ("a.cls", b"0")
        )
        assert open_source(str(tmp_path), split).name == str(tmp_path)
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match=f"no picture at all, but .*{tmp_path}/data/.*: give the"):
        open_source(str(tmp_path), "train")
    assert shard.exists()


def test_a_label_below_0_is_no_class_but_a_picture_without_a_label(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("path,label\na.png,-1\nb.png,0\n")
    words = r"split test: expected labels from 0, found -1, .* in 1 of 2 rows; .*data\.test_split"
    with pytest.raises(InputError, match=words):
        open_source(str(tmp_path), "test")


def test_classes_without_a_picture_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.csv").write_text("path,label\na.png,1\nb.png,3\n")
    assert len(open_source(str(tmp_path / "x.csv"), "train").classes) == 4
    assert "x.csv train: 2 of 4 classes have no picture: 0, 2" in caplog.text


LISTS = {
    "columns": ("file,label\na.png,1\n", "expected columns path and label, found no path but file"),
    "nothing": ("path,label\n", "at least one row"),
    "no label": ("path,label\na.png,\n", "row 0: expected a path and a label"),
    "two labels": ("path,label\na.png,1\na.png,2\n", "a.png as 1 and as 2"),
    "ragged": ("path,label\na.png,1,2\n", "expected a list that can be read"),
    "not named": ("path,label\na.png,emu\n", r"classes.txt, found others: emu"),
    "too large": ("path,label\na.png,2\n", "expected labels from 0 to 1.*found 2"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_of_another_layout_is_refused(tmp_path: Path, case: str) -> None:
    content, message = LISTS[case]
    (tmp_path / "x.csv").write_text(content)
    if case in ("not named", "too large"):
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "x.csv"), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"cat\ncat\n", "every name once"), (b"cat\n\ndog\n", "empty line"), (b"\xff\n", "UTF-8")],
)
def test_names_that_are_none_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    (tmp_path / "x.csv").write_text("path,label\na.png,0\n")
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "x.csv"), "train")


def test_a_listed_picture_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text("path,label\na.png,0\ngone.png,0\n")
    source = open_source(str(tmp_path / "x.csv"), "train")
    manifest = ingest(source, tmp_path / "x.beton", max_bad=0.5)
    assert (manifest.samples, manifest.left_out) == (1, 1)
    assert "gone.png" in manifest.left_out_for[0]


def test_a_list_or_an_archive_among_class_folders_is_none_of_the_source(
    photos: Path, tmp_path: Path
) -> None:
    """As what was downloaded often lies beside what it was unpacked to."""
    for split in ("train", "test"):
        shutil.copytree(photos, tmp_path / "in" / split)
    for folder in (tmp_path / "in", tmp_path / "in" / "train"):
        tar(folder / "photos.tar", ("bear/00.jpg", PNG))
        (folder / "broken.tar").write_bytes(b"none")
        (folder / "labels.csv").write_text("id,breed\n1,poodle\n")
        (folder / "empty.csv").touch()
    for split in ("train", "test"):
        source = open_source(str(tmp_path / "in"), split)
        assert source.classes == ("bear", "cat", "dog") and len(source) == 15


def test_hidden_files_of_a_shard_are_passed_over(tmp_path: Path) -> None:
    members = [("._a.png", b"x"), ("a.png", PNG), ("._a.cls", b"x"), ("a.cls", b"0")]
    tar(tmp_path / "x.tar", *members)
    assert len(open_source(str(tmp_path / "x.tar"), "train")) == 1


@pytest.mark.parametrize("kind", ["csv", "tar"])
def test_a_folder_of_them_is_a_source(photos: Path, tmp_path: Path, kind: str) -> None:
    for split in ("train", "test"):
        (tmp_path / "in" / "images").mkdir(parents=True, exist_ok=True)
        if kind == "csv":
            as_csv(photos, tmp_path / "in").rename(tmp_path / "in" / f"{split}.csv")
        else:
            (tmp_path / split).mkdir()
            shard = as_numbered_tar(photos, tmp_path / split)
            shutil.copy(shard, tmp_path / "in" / f"photos-{split}-0.tar")
    train, test = (open_source(str(tmp_path / "in"), split) for split in ("train", "test"))
    assert (len(train), train.split, test.split) == (15, "train", "test")
