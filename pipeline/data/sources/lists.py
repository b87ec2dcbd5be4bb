"""A list of pictures' paths and labels: CSV, or Parquet without pictures in it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from dsnet.errors import InputError
from pipeline.data.sources.base import Files, Source, digest
from pipeline.data.sources.class_names import named
from pipeline.data.sources.shards import found
from pipeline.data.walk import listed

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
        self._paths: list[str] = []
        values: list[str] = []
        for file in lists:
            paths, labels = columns(file)
            self._paths += [os.path.join(file.parent, path) for path in paths]
            values += labels
        if not values:
            raise InputError(f"source {spec}: expected at least one row, found none")
        self._labels, self.classes = named(values, lists[0].parent, spec)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        label_of: dict[str, int] = {}
        for path, label in zip(self._paths, self._labels.tolist(), strict=True):
            if (other := label_of.setdefault(path, label)) != label:
                raise InputError(
                    f"source {self.name}: expected one label for each picture, found {path} as "
                    f"{self.classes[other]} and as {self.classes[label]}"
                )

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


def is_list(path: Path) -> bool:
    """Whether it has the columns of one; what cannot be read has none."""
    try:
        if path.suffix == ".csv":
            with csv.open_csv(path) as reader:
                names = reader.schema.names
        else:
            names = pq.read_schema(path).names
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
