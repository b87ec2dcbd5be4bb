"""CIFAR as torchvision keeps it: what Python 2 pickled is read, and nothing of it is run."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsnet.errors import InputError
from pipeline.data.sources import open_source

NAMES = ("airplane", "automobile", "labels of things")


def text(value: str | bytes) -> bytes:
    """As Python 2's pickle has a str: SHORT_BINSTRING, or BINSTRING; and kept in its memo."""
    data = value.encode("latin-1") if isinstance(value, str) else value
    if len(data) < 256:
        return b"U" + struct.pack("<B", len(data)) + data + b"q\x01"
    return b"T" + struct.pack("<i", len(data)) + data + b"r\x02\x01\x00\x00"


def number(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def several(items: list[bytes]) -> bytes:
    return b"]q\x03(" + b"".join(items) + b"e"


def array(pixels: np.ndarray) -> bytes:
    """As Python 2 has a NumPy array of uint8: a call of _reconstruct, then its state."""
    rows, columns = pixels.shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05"
        + (number(0) + b"\x85" + text("b") + b"\x87Rq\x06(" + number(1))
        + (number(rows) + number(columns) + b"\x86cnumpy\ndtype\nq\x07" + text("u1"))
        + (number(0) + number(1) + b"\x87Rq\x08(" + number(3) + text("|") + b"NNN")
        + (b"J\xff\xff\xff\xffJ\xff\xff\xff\xff" + number(0) + b"tb\x89")
        + (text(pixels.tobytes()) + b"tb")
    )


def dictionary(**values: bytes) -> bytes:
    return b"\x80\x02}q\x09(" + b"".join(text(key) + values[key] for key in values) + b"u."


def cifar10(folder: Path) -> np.ndarray:
    """A CIFAR-10 folder with ten pictures in each file; the pixels of all, (60, 3072)."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3072), dtype=np.uint8)
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for part, name in enumerate(files):
        own = pixels[part * 10 : part * 10 + 10]
        content = dictionary(
            batch_label=text("a batch of 10"),
            labels=several([number((part + i) % 3) for i in range(10)]),
            data=array(own),
            filenames=several([text(f"{i}_s_000001.png") for i in range(10)]),
        )
        (folder / name).write_bytes(content)
        # That it is what Python 2 wrote: Python 3 reads it so.
        read = pickle.loads(content, encoding="latin-1")
        assert np.array_equal(read["data"], own) and read["labels"][0] == part % 3
    names = several([text(name) for name in NAMES])
    meta = dictionary(num_cases_per_batch=number(10), label_names=names, num_vis=number(3072))
    (folder / "batches.meta").write_bytes(meta)
    return pixels


@pytest.mark.parametrize("within", ["", "cifar-10-batches-py"])
def test_pictures_labels_and_names_are_those_that_were_pickled(tmp_path: Path, within: str) -> None:
    pixels = cifar10(tmp_path / "c" / within)
    train, test = (open_source(str(tmp_path / "c"), split) for split in ("train", "test"))
    assert train.classes == test.classes == NAMES
    assert (len(train), len(test)) == (50, 10)
    for index in (0, 13, 49):
        sample = train[index]
        assert sample.label == (index // 10 + index % 10) % 3
        assert np.array_equal(sample.image, pixels[index].reshape(3, 32, 32).transpose(1, 2, 0))
    assert np.array_equal(test[9].image[..., 2].ravel(), pixels[59, 2048:])
    with pytest.raises(InputError, match="expected one of test, train"):
        open_source(str(tmp_path / "c"), "val")


def test_the_hundred_classes_are_the_fine_ones_and_newer_pickles_are_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)
    for name in ("train", "test"):
        labels = {"coarse_labels": [0, 0, 1, 1], "fine_labels": [3, 2, 1, 0]}
        (tmp_path / name).write_bytes(pickle.dumps({"data": pixels, **labels}, protocol=4))
    names = {"fine_label_names": list("abcd"), "coarse_label_names": ["x", "y"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(names))
    source = open_source(str(tmp_path), "train")
    assert source.classes == ("a", "b", "c", "d")
    assert [source[i].label for i in range(4)] == [3, 2, 1, 0]
    assert np.array_equal(source[2].image[..., 0].ravel(), pixels[2, :1024])


class Runs:
    """What runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    cifar10(tmp_path / "c")
    mark = tmp_path / "ran"
    (tmp_path / "c" / "data_batch_3").write_bytes(pickle.dumps(Runs(f"touch {mark}"), protocol=2))
    with pytest.raises(InputError, match="data_batch_3: expected labels and, in data"):
        open_source(str(tmp_path / "c"), "train")
    assert not mark.exists()


@pytest.mark.parametrize("damage", [lambda c: c[:-2000], lambda c: c[::-1], lambda c: b""])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    cifar10(tmp_path / "c")
    path = tmp_path / "c" / "data_batch_5"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="data_batch_5: expected"):
        open_source(str(tmp_path / "c"), "train")


def test_a_label_without_a_name_is_refused(tmp_path: Path) -> None:
    cifar10(tmp_path / "c")
    meta = dictionary(label_names=several([text("cat")]))
    (tmp_path / "c" / "batches.meta").write_bytes(meta)
    with pytest.raises(InputError, match="expected labels from 0 to 0"):
        open_source(str(tmp_path / "c"), "train")
