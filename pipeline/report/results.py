"""Results of a sweep, kept in one Parquet file: a row for each point of the frontier.

Of which sweep they are, and what its gates do with each test image, lies in the file's metadata, so
that the page can be drawn from this file alone.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from dsnet.io.files import atomic_file
from dsnet.tasks.base import Task
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import CLASSIFICATION, find
from pipeline.report.images import Images

FORMAT = 3
_FORMATS = (1, 2, FORMAT)  # 1 knew no task but classification, 2 no static_stderr

GATE, CURVE, STATIC, ORACLE, CASCADE = "gate", "curve", "static", "oracle", "cascade"

_META = b"dsnet.results"
_HOLDOUT = "holdout_"


@dataclass(frozen=True)
class Row:
    """One point: multiply-adds per image on average, and what they buy on the test images.

    kind: "gate", one trial of the sweep; "curve", one gate at one price; "static", one width for
    every image; "oracle", the best that any gate could do; "cascade", a width by itself and, where
    it is unsure, another by itself.
    label: what to call it. target: as it was asked for; target_madds: in multiply-adds.
    value: mean of the task's headline over the test images. value_stderr: its standard error.
    measures: the mean of every measure that is known, by name; the headline's too. loss: the mean
    loss. stderr: standard error of the difference in value between this routing and random routing
    with the same shares, over images. static_stderr: the same for the best static width, or mixture
    of two, at equal multiply-adds.
    holdout: on held-out images, by name: madds, loss and every measure.
    routes: share of the test images on each path. price: what multiply-adds cost, in logits.
    seconds: what training the gate took. chosen: whether it is the best of its target.
    uri: where to pull it from. config: the trial's settings. error: why it failed, where it did; a
    trial without an error and without a point was stopped early.
    """

    kind: str
    label: str
    madds: float | None = None
    value: float | None = None
    value_stderr: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    stderr: float | None = None
    static_stderr: float | None = None
    target: str | None = None
    target_madds: float | None = None
    holdout: dict[str, float] = field(default_factory=dict)
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

    task: name of what the networks are for. name: the registered model's. supernet: the version
    under its gates. arch, source, dataset: architecture, where the pictures come from, and the
    digest of their betons. images: test images. resolution: in pixels. paths: a name for each path.
    madds: multiply-adds of each. command: what makes these results again. code, created: version of
    the code, and the date. seconds: what the sweep took.
    """

    task: str
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

    @property
    def task(self) -> Task:
        """What the networks are for."""
        return find(self.about.task)

    @property
    def headline(self) -> Measure:
        """What they are compared by: of which the rows' values are."""
        return self.task.headline

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
    rows = [_columns(row) for row in results.rows]
    about = {"format": FORMAT, "about": asdict(results.about), "images": results.images.to_dict()}
    schema = _schema(results.task).with_metadata({_META: json.dumps(about)})
    table = pa.Table.from_pylist(rows, schema=schema)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_results(path: Path) -> Results:
    """The inverse of `write_results`.

    Raises InputError for a file that is not such a one, or is of a task that is not known here.
    """
    try:
        table = pq.read_table(path)
        about: dict[str, Any] = json.loads(table.schema.metadata[_META])
        if about["format"] not in _FORMATS:
            raise ValueError(f"format {shown(about['format'])}")
        facts: dict[str, Any] = {"task": CLASSIFICATION.name} | {
            k: tuple(v) if isinstance(v, list) else v for k, v in about["about"].items()
        }
        task = find(facts["task"])
        rows = [_row(values, task) for values in table.to_pylist()]
        return Results(About(**facts), tuple(rows), Images.from_dict(about["images"]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the results of a sweep, found something else ({line(error)})"
        ) from error


def _schema(task: Task) -> pa.Schema:
    """A column for each measure of the task, under its name, and for it on held-out images."""
    measures = [measure.name for measure in task.measures]
    number = pa.float64()
    return pa.schema(
        [
            ("kind", pa.string()),
            ("label", pa.string()),
            ("target", pa.string()),
            ("target_madds", number),
            ("madds", number),
            *((name, number) for name in measures),
            ("value_stderr", number),
            ("loss", number),
            ("stderr", number),
            ("static_stderr", number),
            *((_HOLDOUT + name, number) for name in ("madds", *measures, "loss")),
            ("routes", pa.list_(number)),
            ("price", number),
            ("seconds", number),
            ("chosen", pa.bool_()),
            ("uri", pa.string()),
            ("config", pa.string()),
            ("error", pa.string()),
        ]
    )


def _columns(row: Row) -> dict[str, Any]:
    """A row by the names of `_schema`, which leaves out what else there is."""
    held = {_HOLDOUT + name: value for name, value in row.holdout.items()}
    config = json.dumps(row.config, sort_keys=True)
    return {**vars(row), **row.measures, **held, "config": config}


def _row(values: dict[str, Any], task: Task) -> Row:
    """The inverse of `_columns`. A measure that the file does not know yet is left out."""
    measures = {measure.name: values.pop(measure.name, None) for measure in task.measures}
    held = {name: values.pop(_HOLDOUT + name, None) for name in ("madds", "loss", *measures)}
    return Row(
        **{
            **values,
            "value": measures[task.headline.name],
            "measures": _known(measures),
            "holdout": _known(held),
            "routes": tuple(values["routes"] or ()),
            "config": json.loads(values["config"]),
        }
    )


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
