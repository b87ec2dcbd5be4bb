"""The tables of docs/scale.md, from the records of `dsnet bench scale`.

    python -m jobs.bench.scaling.tables docs/results/scale.json docs/scale.md

Each stands between a line that names it and one that ends it, and is written anew.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from dsnet.io.files import atomic_file
from jobs.bench.record import Record
from jobs.bench.scaling.assumptions import Assumptions
from jobs.bench.scaling.records import (
    ASSUMED,
    BANDWIDTH,
    COMPUTED,
    COUNTED,
    LATENCY,
    MEASURED,
    PAYS,
    REDUCED,
    WIRE,
)
from jobs.bench.scaling.workers import ALONE, AS_IT_GOES, AT_END, REDUCTION

PLACE = re.compile(r"(<!-- table: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_MEASURED = "-"
TEAM = re.compile(rf"{MEASURED} (\w+), (\d+) workers?: {WIRE}")
STEP = {
    "batch": "global batch",
    "steps of an epoch": "steps of an epoch",
    "step: passes": "passes, ms",
    "step: all-reduce": "all-reduce, ms",
    "step: latency of that": "latency of that, ms",
    "step: exposed": "exposed, ms",
    "step": "step, ms",
    "images of a GPU": "images/s of a GPU",
    "cores for that": "cores of a GPU's loader",
    "step: exposed by trees": "exposed by trees, ms",
}


class Records(dict[str, Record]):
    """By name."""

    def value(self, name: str) -> str:
        """What one says, and of what was measured the smallest and the largest."""
        record = self[name]
        text = digits(record.value)
        low, high = map(digits, record.spread)
        return text if record.runs < 2 or low == high else f"{text} ({low} to {high})"


def digits(value: float) -> str:
    """Whole numbers whole, others to three digits."""
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else "<0.001"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: bool = False) -> str:
    """In Markdown; all columns but the first to the right, if they are not `words`."""
    lines = [columns, ["---", *["---" if words else "---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def assumed(records: Records) -> str:
    """Every assumption, also those that something else stood in for."""
    rows = []
    for each in fields(Assumptions):
        flag, about = each.name.replace("_", "-"), each.metadata
        record = records.get(f"{ASSUMED} {flag}")
        value = f"{digits(record.value)} {about['unit']}" if record else "none"
        default = record is None or record.value == each.default
        rows.append((f"`--{flag}`", about["text"], value, about["source"] if default else "given"))
    return table(["option", "of what", "value", "from"], rows, words=True)


def known(records: Records) -> str:
    """What was counted, measured, or computed of the network alone."""
    rows = [
        (
            what,
            kind,
            f"{records.value(name)} {record.unit}".strip(),
            str(record.runs or NOT_MEASURED),
        )
        for name, record in records.items()
        for kind, _, what in [name.partition(" ")]
        if kind in (COUNTED, MEASURED, COMPUTED) and ":" not in what and " here" not in what
        if "this machine" not in what
    ]
    return table(["what", "how", "figure", "n"], rows, words=True)


def traffic(records: Records) -> str:
    """Bytes that workers sent, beside the formulas."""
    rows = []
    for arch, workers, name in teams(records):
        reduced = records[f"{MEASURED} {name}: {REDUCED}"].value
        computed = records[f"{COMPUTED} {name}: {WIRE}"].value
        found = records[f"{MEASURED} {name}: {WIRE}"].value
        figures = (reduced, found, computed, found - computed)
        rows.append((arch, workers, *map(digits, figures)))
    columns = ["network", "workers", "reduced by each, measured", "on the wire, measured"]
    return table([*columns, "on the wire, computed", "difference"], rows)


def times(records: Records) -> str:
    """How long reductions and steps took, beside the fit."""
    rows = []
    for arch, workers, name in teams(records):
        steps = [
            records.value(f"{MEASURED} {name}: {what}") for what in (ALONE, AT_END, AS_IT_GOES)
        ]
        reduction = f"{MEASURED} {name}: {REDUCTION}"
        if reduction not in records:
            rows.append((arch, workers, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, *steps))
            continue
        fit = records.value(f"{COMPUTED} {name}: {REDUCTION}")
        ratio = f"{records[reduction].ratio or 0:.2f}"
        rows.append((arch, workers, records.value(reduction), fit, ratio, *steps))
    columns = ["network", "workers", "reduction, measured", "fitted, computed", "ratio"]
    return table([*columns, *(f"{what}, measured" for what in (ALONE, AT_END, AS_IT_GOES))], rows)


def fit(records: Records) -> str:
    """The two terms of that fit."""
    rows = [
        (what, f"{records.value(f'{COMPUTED} {what}')} {records[f'{COMPUTED} {what}'].unit}")
        for what in (LATENCY, BANDWIDTH)
    ]
    return table(["computed", "fitted"], rows)


def stops(records: Records) -> str:
    """To how many GPUs doubling pays."""
    rows = [
        (f"global {way}", records.value(f"{COMPUTED} {way}: {PAYS}"))
        for way in ("batch grows", "batch stays")
    ]
    return table(["computed", PAYS], rows)


def teams(records: Records) -> Iterator[tuple[str, str, str]]:
    """Network, number of workers and the name of both, of every team."""
    for name in records:
        if found := TEAM.fullmatch(name):
            yield found[1], found[2], name.removeprefix(f"{MEASURED} ").partition(":")[0]


def steps(records: Records, way: str) -> str:
    """A step of stage I on each number of GPUs."""
    counts = gpus(records, way)
    rows = [
        (f"{count:,}", *(records.value(f"{COMPUTED} {way}, {count} GPUs: {what}") for what in STEP))
        for count in counts
    ]
    return table(["GPUs", *STEP.values()], rows)


def chain(records: Records, way: str) -> str:
    """A whole chain on each number of GPUs, part by part."""
    counts = gpus(records, way)
    start = f"{COMPUTED} {way}, {counts[0]} GPUs: "
    whats = [name.removeprefix(start) for name in records if name.startswith(start)]
    rows = [
        (
            f"{what}, {records[start + what].unit}",
            *(records.value(f"{COMPUTED} {way}, {count} GPUs: {what}") for count in counts),
        )
        for what in whats
        if what not in STEP and not what.startswith("step")
    ]
    return table(["computed", *(f"{count:,} GPUs" for count in counts)], rows)


def gpus(records: Records, way: str) -> list[int]:
    """The numbers of GPUs that all was computed for."""
    found = re.compile(rf"{COMPUTED} {way}, (\d+) GPUs: step")
    return [int(match[1]) for name in records if (match := found.fullmatch(name))]


TABLES: dict[str, Callable[[Records], str]] = {
    "assumed": assumed,
    "known": known,
    "traffic": traffic,
    "times": times,
    "fit": fit,
    "stops": stops,
    "steps": lambda records: steps(records, "batch grows"),
    "chain": lambda records: chain(records, "batch grows"),
    "steps of a batch that stays": lambda records: steps(records, "batch stays"),
    "chain of a batch that stays": lambda records: chain(records, "batch stays"),
}


def written(page: str, records: Sequence[Record]) -> str:
    """The page with its tables made anew."""
    by_name = Records({record.name: record for record in records})
    return PLACE.sub(
        lambda place: place[1] + "\n" + TABLES[place[2]](by_name) + "\n" + place[3], page
    )


def read(file: Path) -> list[Record]:
    """What `dsnet bench --json` wrote."""
    return [Record(**each) for each in json.loads(file.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    source, page = map(Path, sys.argv[1:])
    with atomic_file(page) as temporary:
        temporary.write_text(written(page.read_text(encoding="utf-8"), read(source)))
