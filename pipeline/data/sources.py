"""Where labelled pictures come from: the digits in scikit-learn, class folders, Parquet files."""

import bisect
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsnet.errors import InputError
from pipeline.data.split import stratified
from pipeline.data.walk import class_pictures, listed

SPLIT_NAMES = frozenset(("train", "test", "val", "valid", "validation"))


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    image: bytes | np.ndarray
    """A picture file's bytes, or pixels: uint8 (H, W, 3), RGB."""
    label: int
    """Position in the source's classes."""
    path: str
    """Where the picture is, for messages."""


class Source(Protocol):
    """Labelled pictures, by position. Reading from several threads at once is safe."""

    name: str
    split: str
    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def fingerprint(self) -> str:
        """A digest that changes when the pictures do (for files: their names, sizes and times)."""
        ...


def open_source(spec: str, split: str) -> Source:
    """Open a part of a source.

    `spec` is "digits", a folder of class folders, a folder of SPLIT/CLASS folders, a .parquet
    file (columns `image: struct<bytes, path>` and `label: int`, as in Hugging Face data sets), or
    a folder of SPLIT.parquet or SPLIT-*.parquet files. A folder of class folders or a single file
    is one split: "train", or the one that it is named after.

    Raises InputError if there is no such source or split, or it is not laid out as expected.
    """
    if spec == "digits":
        return Digits(split)
    path = Path(spec)
    if not path.exists():
        raise InputError(
            f"source {spec}: expected a folder, a .parquet file or the word digits, found no such "
            "file or folder"
        )
    if path.is_file():
        if path.suffix != ".parquet":
            raise InputError(
                f"source {spec}: expected a folder, a .parquet file or the word digits, found "
                f"another kind of file ({path.suffix or 'no suffix'})"
            )
        _refuse_other_split(spec, path.stem, split)
        return ParquetFiles([path], split)
    files = sorted(path.glob("*.parquet"))
    if files:
        return _parquet_folder(path, files, split)
    if (path / split).is_dir():
        return ClassFolders(path / split, split)
    splits = sorted(child.name for child in path.iterdir() if child.name in SPLIT_NAMES)
    if splits:
        raise _unknown_split(spec, splits, split)
    _refuse_other_split(spec, path.resolve().name, split)
    return ClassFolders(path, split)


def _unknown_split(spec: str, available: Sequence[str], split: str) -> InputError:
    return InputError(
        f"split {split!r} of source {spec}: expected one of {', '.join(available)}; found no such "
        "split"
    )


def _refuse_other_split(spec: str, name: str, split: str) -> None:
    """Training and test pictures must never silently be the same ones."""
    own = sorted({"train"} | ({name} if name in SPLIT_NAMES else set()))
    if split not in own:
        raise _unknown_split(spec, own, split)


def other_classes(first: Sequence[str], second: Sequence[str], here: str, there: str) -> str:
    """How two lists of classes, called `here` and `there`, differ, in words."""
    alone = [
        f"in {where} alone: {listed(sorted(names))}"
        for where, names in (
            (here, Counter(first) - Counter(second)),
            (there, Counter(second) - Counter(first)),
        )
        if names
    ]
    if alone:
        return "; ".join(alone)
    label = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return f"label {label} is {first[label]} in {here} and {second[label]} in {there}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Digits:
    """scikit-learn's 1,797 scans of handwritten digits: 8x8, grey, in three equal channels.

    A fixed, class-stratified fifth (360) is "test", the rest (1,437) "train".
    """

    name = "digits"
    classes = tuple("0123456789")

    def __init__(self, split: str) -> None:
        from sklearn.datasets import load_digits  # slow to import, and only needed here

        if split not in ("train", "test"):
            raise _unknown_split("digits", ("test", "train"), split)
        self.split = split
        scans, labels = load_digits(return_X_y=True)
        train, test = stratified(labels, 0.2, seed=0)
        self._chosen = train if split == "train" else test
        grey = np.rint(scans[self._chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        self._images = np.repeat(grey, 3, axis=3)
        self._labels = labels[self._chosen]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        path = f"digits[{self._chosen[index]}]"
        return Sample(self._images[index], int(self._labels[index]), path)

    def fingerprint(self) -> str:
        """A digest of pixels and labels."""
        return hashlib.sha256(self._images.tobytes() + self._labels.tobytes()).hexdigest()


class ClassFolders:
    """A folder with one folder of pictures per class; classes in the order of their names.

    Which files and links count, see `class_pictures`.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.name, self.split = str(folder), split
        members = class_pictures(folder)
        self.classes = tuple(members)
        self._paths = [path for pictures in members.values() for path in pictures]
        counts = [len(pictures) for pictures in members.values()]
        self._labels = np.repeat(np.arange(len(members)), counts)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        try:
            return Sample(Path(path).read_bytes(), int(self._labels[index]), path)
        except OSError as error:
            raise InputError(
                f"{path}: expected a readable picture, found {error.strerror}"
            ) from error

    def fingerprint(self) -> str:
        """A digest of every picture's path within the source, size and modification time."""
        parts = []
        for path in self._paths:
            status = os.stat(path)
            name = os.path.relpath(path, self.name)
            parts += [name, str(status.st_size), str(status.st_mtime_ns)]
        return _digest(parts)


def _parquet_folder(folder: Path, files: list[Path], split: str) -> "ParquetFiles":
    own = [path for path in files if path.stem == split or path.stem.startswith(f"{split}-")]
    if not own:
        raise _unknown_split(str(folder), sorted({p.stem.split("-")[0] for p in files}), split)
    return ParquetFiles(own, split, name=str(folder))


class ParquetFiles:
    """Parquet files with a picture file's bytes and a label in each row.

    Class names come from the schema's metadata (`classes`, a JSON list, or Hugging Face's
    `huggingface`); without either they are the labels' numbers.
    """

    def __init__(self, paths: Sequence[Path], split: str, name: str | None = None) -> None:
        self.name, self.split = name or str(paths[0]), split
        self._paths = [str(path) for path in paths]
        self._ends: list[int] = []  # running count of rows at the end of each row group
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        labels = []
        names: tuple[str, ...] = ()
        for number, path in enumerate(self._paths):
            file = _open_parquet(path)
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                self._ends.append(rows + (self._ends[-1] if self._ends else 0))
                self._groups.append((number, group))
            labels.append(_labels(path, file))
            own = _class_names(file.schema_arrow)
            names = names or own
            if own and own != names:
                raise InputError(
                    f"{path}: expected the classes of the files before it, found others: "
                    f"{other_classes(names, own, 'the others', 'this one')}"
                )
        self._labels = np.concatenate(labels)
        if not len(self._labels):
            raise InputError(f"source {self.name}: expected at least one row, found none")
        self.classes = names or tuple(str(i) for i in range(int(self._labels.max()) + 1))
        wrong = np.flatnonzero((self._labels < 0) | (self._labels >= len(self.classes)))
        if len(wrong):
            raise InputError(
                f"source {self.name}, row {wrong[0]}, column label: expected 0 to "
                f"{len(self.classes) - 1}, found {self._labels[wrong[0]]}"
            )
        self._loaded: dict[int, pa.ChunkedArray] = {}
        self._loading = threading.Lock()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = bisect.bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        image = self._images(group)[index - start].as_py() or {}
        path = f"{self.name}, row {index}" + (f" ({image['path']})" if image.get("path") else "")
        if not image.get("bytes"):
            raise InputError(f"{path}: expected a picture's bytes in image.bytes, found none")
        return Sample(image["bytes"], int(self._labels[index]), path)

    def _images(self, group: int) -> pa.ChunkedArray:
        """A row group's pictures. Two groups are kept: threads that read on straddle two."""
        with self._loading:
            if group not in self._loaded:
                if len(self._loaded) == 2:
                    del self._loaded[next(iter(self._loaded))]
                number, row_group = self._groups[group]
                table = pq.ParquetFile(self._paths[number]).read_row_group(row_group, ["image"])
                self._loaded[group] = table["image"]
            return self._loaded[group]

    def fingerprint(self) -> str:
        """A digest of every file's name, size and modification time."""
        statuses = [(Path(path).name, os.stat(path)) for path in self._paths]
        return _digest([f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in statuses])


def _open_parquet(path: str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: expected a Parquet file, found a damaged one ({reason})") from (
            error
        )
    columns = {field.name: field.type for field in file.schema_arrow}
    image: Any = columns.get("image")
    good = image is not None and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0
    if not good or "label" not in columns or not pa.types.is_integer(columns["label"]):
        found = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
        raise InputError(
            f"{path}: expected columns image: struct<bytes, path> and label: int64, found {found}"
        )
    return file


def _labels(path: str, file: pq.ParquetFile) -> np.ndarray:
    column = file.read(["label"])["label"]
    if column.null_count:
        raise InputError(
            f"{path}, column label: expected a label in every row, found {column.null_count} "
            "without one"
        )
    labels: np.ndarray = column.to_numpy().astype(np.int64)
    return labels


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        return tuple(json.loads(metadata[b"classes"]))
    if b"huggingface" in metadata:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(features["label"].get("names", ()))
    return ()
