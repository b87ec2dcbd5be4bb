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
from pydantic import TypeAdapter

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from dsnet.io.files import atomic_file
from dsnet.tasks.base import Task
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import find
from pipeline.report.images import Images

FORMAT = 3

GATE, CURVE, STATIC, ORACLE, CASCADE = "gate", "curve", "static", "oracle", "cascade"

_META = b"dsnet.results"
_HOLDOUT = "holdout_"


@dataclass(frozen=True)
class Row:
    """One point: multiply-adds per image on average, and what they buy on the test images."""

    kind: str
    """GATE, one trial of the sweep; CURVE, one gate at one price; STATIC, one width for all images;
    ORACLE, the best that any gate could do; CASCADE, a width by itself and, where it is unsure,
    another by itself."""
    label: str
    """What to call it."""
    madds: float | None = None
    value: float | None = None
    """Mean of the task's headline over the test images."""
    value_stderr: float | None = None
    """Its standard error."""
    measures: dict[str, float] = field(default_factory=dict)
    """The mean of every measure that is known, by name; the headline's too."""
    loss: float | None = None
    """Mean over the test images."""
    stderr: float | None = None
    """Standard error, over images, of the difference in value to random routing with the same
    shares."""
    static_stderr: float | None = None
    """The same for the best static width, or mixture of two, at equal multiply-adds."""
    target: str | None = None
    """As it was asked for."""
    target_madds: float | None = None
    holdout: dict[str, float] = field(default_factory=dict)
    """On held-out images, by name: madds, loss and every measure."""
    routes: tuple[float, ...] = ()
    """Share of the test images on each path."""
    price: float | None = None
    """What multiply-adds cost, in logits."""
    seconds: float | None = None
    """What training the gate took."""
    chosen: bool = False
    """Whether it is the best of its target."""
    uri: str | None = None
    """Where to pull it from."""
    config: dict[str, Any] = field(default_factory=dict)
    """The trial's settings."""
    error: str | None = None
    """Why it failed, where it did; a trial without an error and a point was stopped early."""


@dataclass(frozen=True)
class About:
    """Which sweep the results are of."""

    task: str
    """Name of what the networks are for."""
    name: str
    """The registered model's."""
    supernet: str
    """The version under its gates."""
    arch: str
    source: str
    """Where the pictures come from."""
    dataset: str
    """Digest of their betons."""
    images: int
    """For testing."""
    resolution: int
    """In pixels."""
    paths: tuple[str, ...]
    """A name for each."""
    madds: tuple[int, ...]
    """Multiply-adds of each path."""
    command: str
    """What makes these results again."""
    code: str
    """Version of the code."""
    created: str
    """The date."""
    seconds: float
    """What the sweep took."""


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
    about = {"format": FORMAT, "about": asdict(results.about), "images": asdict(results.images)}
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
        if about["format"] != FORMAT:
            raise ValueError(f"format {shown(about['format'])}")
        facts = TypeAdapter(About).validate_python(about["about"])
        images = TypeAdapter(Images).validate_python(about["images"])
        task = find(facts.task)
        return Results(facts, tuple(_row(values, task) for values in table.to_pylist()), images)
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
