"""Parquet files in the layout of Hugging Face image data sets."""

import bisect
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from pipeline.data.sources.base import Sample, Source, other_classes
from pipeline.data.sources.class_names import MOST_BYTES, checked, numbered
from pipeline.data.sources.shards import beside, found

EXPECTED = "a .parquet file"

# Keys of a schema's metadata, and the way to the class names in each. The first is ours.
_NAMES: dict[str, tuple[str, ...]] = {
    "classes": (),
    "huggingface": ("info", "features", "label", "names"),
}


def opened(spec: str, split: str) -> Source | None:
    """A .parquet file, a folder of them, or a pattern; which are a split's, see `shards.found`.

    The columns are `image: struct<bytes, path>` and `label: int`.
    """
    paths = found(spec, ".parquet", split)
    return ParquetFiles(spec, paths, split) if paths else None


class ParquetFiles(Source):
    """Parquet files with a picture file's bytes and a label in each row.

    Class names come from the schema's metadata (`classes`, a JSON list, or Hugging Face's
    `huggingface`); without either they are the labels' numbers.
    """

    def __init__(
        self, spec: str, paths: Sequence[Path], split: str, classes: tuple[str, ...] = ()
    ) -> None:
        """classes: a single one that all are of, whose labels are not asked for."""
        self.name, self.split = spec, split
        self._paths = [str(path) for path in paths]
        self._ends: list[int] = []  # running count of rows at the end of each row group
        self._groups: list[tuple[int, int]] = []  # (file, row group)
        labels = []
        names: tuple[str, ...] = ()
        for number, path in enumerate(self._paths):
            file = _open_parquet(path, labelled=not classes)
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                self._ends.append(rows + (self._ends[-1] if self._ends else 0))
                self._groups.append((number, group))
            if classes:
                labels.append(np.zeros(metadata.num_rows, np.int64))
                continue
            labels.append(_labels(path, file))
            own = _class_names(path, file.schema_arrow)
            names = names or own
            if own and own != names:
                raise InputError(
                    f"{path}: expected the classes of the files before it, found others: "
                    f"{other_classes(names, own, 'the others', 'this one')}"
                )
        values = np.concatenate(labels)
        if not len(values):
            raise InputError(f"source {self.name}: expected at least one row, found none")
        self._labels, self.classes = numbered(values, classes or names, spec, split)
        self.files = self._paths
        self._leave(beside(spec, paths))
        self._loaded: dict[int, pa.ChunkedArray] = {}
        self._loading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": {}, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_loading": threading.Lock()})

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


def _open_parquet(path: str, labelled: bool) -> pq.ParquetFile:
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
    label = "label" in columns and pa.types.is_integer(columns["label"])
    if not good or (labelled and not label):
        found = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
        raise InputError(
            f"{path}: expected columns image: struct<bytes, path>"
            f"{' and label: int64' if labelled else ''}, found {found}"
        )
    return file


def _labels(path: str, file: pq.ParquetFile) -> np.ndarray:
    try:
        column = file.read(["label"])["label"].cast(pa.int64())
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}, column label: expected whole numbers, found: {line(error)}"
        ) from error
    if column.null_count:
        raise InputError(
            f"{path}, column label: expected a label in every row, found {column.null_count} "
            "without one"
        )
    labels: np.ndarray = column.to_numpy()
    return labels


def _class_names(path: str, schema: pa.Schema) -> tuple[str, ...]:
    """What the schema's metadata says; () where they have no names, as for a label that is a plain
    number. Raises InputError for what is no list of names.
    """
    metadata = schema.metadata or {}
    for key, way in _NAMES.items():
        if key.encode() not in metadata:
            continue
        where = f"{path}, metadata {key}"
        names = _json(metadata[key.encode()], where)
        for part in way:
            if not isinstance(names, dict) or part not in names:
                return ()
            names = names[part]
        if not isinstance(names, list):
            raise InputError(f"{where}: expected a list of class names, found {shown(names)}")
        return checked(names, where)
    return ()


def _json(text: bytes, where: str) -> Any:
    if len(text) > MOST_BYTES:
        raise InputError(f"{where}: expected up to {MOST_BYTES:,} bytes, found {len(text):,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected JSON, found something else ({line(error)})") from error
