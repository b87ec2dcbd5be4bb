"""Results of a sweep, kept in one Parquet file: a row for each point of the frontier.

Of which sweep they are, and what its gates do with each test image, lies in the file's metadata, so
that the page can be drawn from this file alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsnet.errors import InputError
from dsnet.files import atomic_file
from pipeline.report.images import Images

FORMAT = 1

GATE, CURVE, STATIC, ORACLE = "gate", "curve", "static", "oracle"

_META = b"dsnet.results"
_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("label", pa.string()),
        ("target", pa.string()),
        ("target_madds", pa.float64()),
        ("madds", pa.float64()),
        ("top1", pa.float64()),
        ("top5", pa.float64()),
        ("loss", pa.float64()),
        ("stderr", pa.float64()),
        ("holdout_madds", pa.float64()),
        ("holdout_top1", pa.float64()),
        ("holdout_loss", pa.float64()),
        ("routes", pa.list_(pa.float64())),
        ("price", pa.float64()),
        ("seconds", pa.float64()),
        ("chosen", pa.bool_()),
        ("uri", pa.string()),
        ("config", pa.string()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One point: multiply-adds per image on average, and what they buy on the test images.

    kind: "gate", one trial of the sweep; "curve", one gate at one price; "static", one width for
    every image; "oracle", the best that any gate could do.
    label: what to call it. target: as it was asked for; target_madds: in multiply-adds.
    top1, top5: shares of the test images. loss: mean cross-entropy. stderr: standard error of the
    difference in top-1 between this routing and random routing with the same shares, over images.
    holdout_…: on held-out images.
    routes: share of the test images on each path. price: what multiply-adds cost, in logits.
    seconds: what training the gate took. chosen: whether it is the best of its target.
    uri: where to pull it from. config: the trial's settings. error: why it failed, where it did; a
    trial without an error and without a point was stopped early.
    """

    kind: str
    label: str
    madds: float | None = None
    top1: float | None = None
    top5: float | None = None
    loss: float | None = None
    stderr: float | None = None
    target: str | None = None
    target_madds: float | None = None
    holdout_madds: float | None = None
    holdout_top1: float | None = None
    holdout_loss: float | None = None
    routes: tuple[float, ...] = ()
    price: float | None = None
    seconds: float | None = None
    chosen: bool = False
    uri: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class About:
    """Which sweep the results are of.

    name: the registered model's. supernet: the version under its gates. arch, source, dataset:
    architecture, where the pictures come from, and the digest of their betons. images: test images.
    resolution: in pixels. paths: a name for each path. madds: multiply-adds of each. command: what
    makes these results again. code, created: version of the code, and the date. seconds: what the
    sweep took.
    """

    name: str
    supernet: str
    arch: str
    source: str
    dataset: str
    images: int
    resolution: int
    paths: tuple[str, ...]
    madds: tuple[int, ...]
    command: str
    code: str
    created: str
    seconds: float


@dataclass(frozen=True)
class Results:
    """Everything a report shows."""

    about: About
    rows: tuple[Row, ...]
    images: Images

    def of_kind(self, *kinds: str) -> list[Row]:
        """The rows of these kinds that have a point, by rising multiply-adds."""
        rows = [row for row in self.rows if row.kind in kinds and row.madds is not None]
        return sorted(rows, key=lambda row: row.madds or 0.0)

    @property
    def chosen(self) -> list[Row]:
        """The best gate of each target, by rising multiply-adds."""
        return [row for row in self.of_kind(GATE) if row.chosen]


def write_results(results: Results, path: Path) -> None:
    """Write one Parquet file, whole or not at all."""
    rows = [{**vars(row), "config": json.dumps(row.config, sort_keys=True)} for row in results.rows]
    about = {"format": FORMAT, "about": asdict(results.about), "images": results.images.to_dict()}
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata({_META: json.dumps(about)}))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_results(path: Path) -> Results:
    """The inverse of `write_results`. Raises InputError for a file that is not such a one."""
    try:
        table = pq.read_table(path)
        about: dict[str, Any] = json.loads(table.schema.metadata[_META])
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        rows = [_row(values) for values in table.to_pylist()]
        facts: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in about["about"].items()
        }
        return Results(About(**facts), tuple(rows), Images.from_dict(about["images"]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the results of a sweep, found something else ({error})"
        ) from error


def _row(values: dict[str, Any]) -> Row:
    routes: Sequence[float] = values["routes"] or ()
    return Row(**{**values, "routes": tuple(routes), "config": json.loads(values["config"])})
