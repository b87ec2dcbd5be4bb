"""Predictions as a file: Parquet, CSV or JSON lines by its suffix, whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from pipeline.predict.stream import Row

SUFFIXES = (".parquet", ".csv", ".jsonl")
Write = Callable[[Sequence[Row]], None]


def check_suffix(path: Path) -> None:
    """Raise InputError unless `path` is the name of a file that predictions can be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, found a folder")


@contextmanager
def table_file(path: Path, top_k: int = 1) -> Iterator[Write]:
    """Yields what takes rows as they come; the file is there when all of them have come.

    The columns are the keys of a `Row`; in CSV lists are JSON. A file that was there is replaced.
    Raises InputError as `check_suffix`, DiskFullError where there is no room.
    """
    check_suffix(path)
    kind = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines}[path.suffix.lower()]
    with atomic_file(path) as temporary, kind(temporary, top_k) as write:
        yield write


@contextmanager
def _lines(path: Path, top_k: int) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8") as file:

        def write(rows: Sequence[Row]) -> None:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

        yield write


@contextmanager
def _csv(path: Path, top_k: int) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_columns(top_k))

        def write(rows: Sequence[Row]) -> None:
            writer.writerows([_cell(value) for value in row.values()] for row in rows)

        yield write


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


@contextmanager
def _parquet(path: Path, top_k: int) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {"path": pa.string(), "class": pa.string(), "confidence": pa.float64()}
    kinds |= {
        "labels": pa.list_(pa.int64()),
        "classes": pa.list_(pa.string()),
        "confidences": pa.list_(pa.float64()),
    }
    schema = pa.schema([(name, kinds.get(name, pa.int64())) for name in _columns(top_k)])
    with ParquetWriter(path, schema) as writer:

        def write(rows: Sequence[Row]) -> None:
            writer.write_table(pa.Table.from_pylist(list(rows), schema))

        yield write


def _columns(top_k: int) -> tuple[str, ...]:
    one = ("path", "label", "class", "confidence", "width", "madds")
    return one + (("labels", "classes", "confidences") if top_k > 1 else ())
