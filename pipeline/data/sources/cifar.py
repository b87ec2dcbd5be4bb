"""CIFAR-10 and CIFAR-100 as torchvision downloads them: pickles, read without running them."""

import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from dsnet.models.architecture import MOST_CLASSES
from pipeline.data.sources.base import Sample, Source, unknown_split
from pipeline.data.sources.class_names import checked, numbered
from pipeline.data.sources.walk import others_in

EXPECTED = "a folder of CIFAR-10 or CIFAR-100"

SIDE = 32  # pixels
MOST_BYTES = 2**28  # of a file; the largest has 155 MB


@dataclass(frozen=True)
class _Edition:
    """How one of the two is laid out."""

    folder: str
    names: str
    """The file with the classes' names,"""
    names_key: str
    """and their key in it."""
    labels_key: str
    splits: dict[str, tuple[str, ...]]

    def files(self) -> list[str]:
        """The names of all its files."""
        return [self.names, *(name for names in self.splits.values() for name in names)]


EDITIONS = (
    _Edition(
        "cifar-10-batches-py",
        "batches.meta",
        "label_names",
        "labels",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    ),
    _Edition(
        "cifar-100-python",
        "meta",
        "fine_label_names",
        "fine_labels",
        {"train": ("train",), "test": ("test",)},
    ),
)
COME_ALONG = ("readme.html", "file.txt~")  # with the download
# Instructions that hold no value of what was pickled.
BOOKKEEPING = ("PROTO", "FRAME", "PUT", "GET", "GLOBAL")
# Every key of these files: one begins where another's values end.
KEYS = {
    *("batch_label", "data", "filenames", "labels", "fine_labels", "coarse_labels"),
    *("label_names", "fine_label_names", "coarse_label_names", "num_cases_per_batch", "num_vis"),
}


def opened(spec: str, split: str) -> Source | None:
    """cifar-10-batches-py or cifar-100-python, or the folder that torchvision has put it in."""
    for edition in EDITIONS:
        for folder in (Path(spec), Path(spec) / edition.folder):
            if all((folder / name).is_file() for name in edition.files()):
                if split not in edition.splits:
                    raise unknown_split(spec, sorted(edition.splits), split)
                return Cifar(spec, folder, edition, split)
    return None


class Cifar(Source):
    """One split: pictures of 32x32. The 100 classes are the fine ones."""

    def __init__(self, spec: str, folder: Path, edition: _Edition, split: str) -> None:
        self.name, self.split = spec, split
        self.files = paths = [folder / name for name in edition.splits[split]]
        texts = _values(folder / edition.names).get(edition.names_key, ())
        names = [text.decode("latin-1") if isinstance(text, bytes) else text for text in texts]
        classes = checked(names, f"{folder / edition.names}")
        batches = [_batch(path, edition.labels_key) for path in paths]
        self._pixels = np.concatenate([pixels for pixels, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        if not classes:
            raise InputError(f"{folder / edition.names}: expected the classes' names, found none")
        self._labels, self.classes = numbered(labels, classes, spec, split)
        self._leave(others_in(folder, {*edition.files(), *COME_ALONG}))

    def __getitem__(self, index: int) -> Sample:
        planes = self._pixels[index].reshape(3, SIDE, SIDE)
        image = np.ascontiguousarray(planes.transpose(1, 2, 0))
        return Sample(image, int(self._labels[index]), f"{self.name}[{index}]")


def _batch(path: Path, labels_key: str) -> tuple[np.ndarray, np.ndarray]:
    """A file's pixels, uint8 (samples, 3072) in planes, and labels, int64 (samples,)."""
    values = _values(path)
    labels = [value for value in values.get(labels_key, ()) if isinstance(value, int)]
    texts = [value for value in values.get("data", ()) if isinstance(value, bytes)]
    data = max(texts, key=len, default=b"")
    expected = len(labels) * 3 * SIDE * SIDE
    if not labels or len(data) != expected:
        raise InputError(
            f"{path}: expected {labels_key} and, in data, 3 x {SIDE} x {SIDE} bytes for each of "
            f"them, found {len(labels)} labels and {len(data)} bytes"
        )
    if not -1 <= min(labels) <= max(labels) < MOST_CLASSES:
        raise InputError(f"{path}: expected {labels_key} up to {MOST_CLASSES:,}, found others")
    return np.frombuffer(data, np.uint8).reshape(len(labels), -1), np.array(labels, np.int64)


def _values(path: Path) -> dict[str, list[int | bytes | str]]:
    """By key, the numbers and texts of a pickled dictionary, in order.

    A pickle is a program that may do anything. This reads its instructions and runs none.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path}: expected up to {MOST_BYTES:,} bytes, found {size:,}")
    found: dict[str, list[int | bytes | str]] = {}
    values: list[int | bytes | str] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if argument is None or opcode.name.endswith(BOOKKEEPING):
                continue
            key = argument.decode("latin-1") if isinstance(argument, bytes) else argument
            if key in KEYS:
                values = found.setdefault(key, [])
            elif "STRING" in opcode.name:  # what Python 2 called a text: bytes
                values.append(argument.encode("latin-1"))
            elif isinstance(argument, int | str | bytes):
                values.append(argument)
    except (ValueError, OSError, AttributeError) as error:
        raise InputError(f"{path}: expected a file of CIFAR, found {error}") from error
    return found
