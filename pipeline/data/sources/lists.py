"""A list of pictures' paths and labels: CSV, or Parquet without pictures in it."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from dsnet.errors import InputError
from pipeline.data.sources.base import SPLIT_NAMES, Files, Source, digest
from pipeline.data.sources.class_names import FILE, named
from pipeline.data.sources.shards import found
from pipeline.data.sources.walk import (
    is_passed_over,
    kind_of_file,
    listed,
    picture_suffixes,
)

EXPECTED = "a .csv file of paths and labels"

PATH, LABEL = "path", "label"


def opened(spec: str, split: str) -> Source | None:
    """A .csv file, or a .parquet file with a column `path`; or several, see `shards.found`."""
    paths = found(spec, ".csv", split, is_list)
    if not paths:
        paths = [path for path in found(spec, ".parquet", split, is_list) if is_list(path)]
    return PictureList(spec, paths, split) if paths else None


class PictureList(Files):
    """Pictures named by the column `path`, relative to the list's folder, of the class `label`.

    A label is a number or a class name, see `class_names.named`. A picture that is not there is one
    that cannot be used, as a damaged one is.
    """

    def __init__(self, spec: str, lists: Sequence[Path], split: str) -> None:
        self.name, self.split = spec, split
        self._paths = []
        values: list[str] = []
        for file in lists:
            paths, labels = columns(file)
            self._paths += [os.path.join(file.parent, path) for path in paths]
            values += labels
        if not values:
            raise InputError(f"source {spec}: expected at least one row, found none")
        self._labels, self.classes = named(values, lists[0].parent, spec, split)
        self._refuse_contradictions()
        self.files = self._paths
        self._leave(self._unlisted(lists))

    def _refuse_contradictions(self) -> None:
        label_of: dict[str, int] = {}
        for path, label in zip(self._paths, self._labels.tolist(), strict=True):
            if (other := label_of.setdefault(path, label)) != label:
                raise InputError(
                    f"source {self.name}: expected one label for each picture, found {path} as "
                    f"{self.classes[other]} and as {self.classes[label]}"
                )

    def _unlisted(self, lists: Sequence[Path]) -> Counter[str]:
        """Files in the folders of the pictures that no list beside these names, by kind."""
        folders = {file.parent for file in lists}
        if Path(self.name).is_dir():
            folders |= {Path(self.name, name) for name in ("", *SPLIT_NAMES)}
        others = {file for folder in folders for file in folder.glob("*") if is_list(file)}
        named = {os.path.normpath(path) for path in self._paths}
        places = {os.path.dirname(path) for path in named}
        named |= {os.path.normpath(file) for file in others}
        for file in others.difference(lists):
            with suppress(InputError):  # told to whoever opens that one
                named.update(os.path.normpath(file.parent / path) for path in columns(file)[0])
        unused: Counter[str] = Counter()
        for path in chain.from_iterable(map(_files_in, places)):
            kind = kind_of_file(path)
            if path not in named:
                unused["pictures in no list" if kind in picture_suffixes() else kind] += 1
        return unused

    def fingerprint(self) -> str:
        """A digest of every picture's path, size and modification time, and of its label."""
        parts = []
        for path, label in zip(self._paths, self._labels.tolist(), strict=True):
            try:
                status = os.stat(path)
                known = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # left out by who reads it, and said there
                known = "missing"
            parts += [path, known, str(label)]
        return digest(parts)


def _files_in(folder: str) -> Iterator[str]:
    """The paths of a folder's files that are not passed over; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file() and not is_passed_over(entry.name) and entry.name != FILE:
                    yield os.path.join(folder, entry.name)
    except OSError:
        return


def is_list(path: Path) -> bool:
    """Whether it has the columns of one; what cannot be read has none."""
    try:
        if path.suffix == ".csv":
            with csv.open_csv(path) as reader:
                names = reader.schema.names
        elif path.suffix == ".parquet":
            names = pq.read_schema(path).names
        else:
            return False
    except (pa.ArrowException, OSError):
        return False
    return {PATH, LABEL} <= {*names}


def columns(file: Path) -> tuple[list[str], list[str]]:
    """Paths and labels as text, of every row."""
    try:
        if file.suffix == ".csv":
            # As text: of 007 a number would keep the 7 alone.
            types = dict.fromkeys((PATH, LABEL), pa.string())
            table = csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=types))
        else:
            table = pq.read_table(file)
        if missing := {PATH, LABEL} - set(table.column_names):
            raise InputError(
                f"{file}: expected columns {PATH} and {LABEL}, found no {listed(sorted(missing))} "
                f"but {listed(table.column_names)}"
            )
        paths, labels = (table[name].cast(pa.string()).to_pylist() for name in (PATH, LABEL))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: expected a list that can be read, found {reason}") from error
    for row, (path, label) in enumerate(zip(paths, labels, strict=True)):
        if not path or not label:
            raise InputError(f"{file}, row {row}: expected a path and a label, found none")
    return paths, labels
