"""The plots of a sweep: what widths and gates reach for their cost, and what gates gain."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from dsnet.tasks.measure import Measure
from pipeline.report.chart import (
    Axis,
    Drawing,
    Point,
    Series,
    alone,
    chart,
    counts,
    decimals,
    short,
)
from pipeline.report.frontier import best_static, random_routing
from pipeline.report.results import CASCADE, CURVE, GATE, ORACLE, STATIC, Results, Row
from pipeline.report.words import Words

Size = tuple[int, int]
Place = Callable[[Row], float]
_COST = Axis("multiply-adds per image, average", counts)


def accuracy(rows: Sequence[Row], headline: Measure, size: Size = (760, 360)) -> Drawing:
    """The headline against multiply-adds: squares are single widths, dots are gates.

    rows: static ones, the slimmest first, and chosen gates.
    """
    static = [row for row in rows if row.kind == STATIC]
    lines = [_line(STATIC, static, _value)]
    marks = _marks(rows, headline, _value, lambda row: row.stderr)
    return _against_cost(headline, [*lines, *marks], size)


def accuracy_file(rows: Sequence[Row], headline: Measure) -> str:
    """The same as a file."""
    return alone(accuracy(rows, headline))


def pareto(results: Results, size: Size) -> Drawing:
    """The headline against average multiply-adds."""
    headline, static = results.headline, results.of_kind(STATIC)
    oracle, curve = results.of_kind(ORACLE), results.of_kind(CURVE)
    if oracle and static:
        # Past its end, more multiply-adds bring the oracle nothing.
        oracle = [*oracle, replace(oracle[-1], madds=static[-1].madds)]
    lines = [
        _line(ORACLE, oracle, _value),
        _line(STATIC, static, _value),
        _line("random", curve, lambda row: random_routing(results, row)),
        _line(CASCADE, results.of_kind(CASCADE), _value),
        _line(CURVE, curve, _value),
    ]
    rows = [*static, *results.of_kind(GATE)]
    marks = _marks(rows, headline, _value, lambda row: row.stderr)
    return _against_cost(headline, [*lines, *marks], size)


def gains(results: Results, size: Size) -> Drawing:
    """The difference to the best static widths of equal cost, in the headline's steps."""
    static, curve, headline = results.of_kind(STATIC), results.of_kind(CURVE), results.headline
    level, words = best_static(results), Words.of(headline)

    def over(row: Row, value: float) -> float:
        return value - headline.of_error(level.at(row.madds or 0.0))

    def above(row: Row) -> float:
        return over(row, _value(row))

    ends = [static[0], static[-1]]
    lines = [
        _line(STATIC, ends, lambda row: 0.0),
        _line("random", curve, lambda row: over(row, random_routing(results, row))),
        _line(CASCADE, results.of_kind(CASCADE), above),
        _line(CURVE, curve, above),
    ]
    rows = [*static, *results.of_kind(GATE)]
    marks = _marks(rows, headline, above, lambda row: row.static_stderr)
    unit = f", in {headline.steps}" if headline.steps else ""
    name = f"{words.title} {words.above} the best static width{unit}, against multiply-adds"
    y = Axis("", lambda values: [headline.difference(v, _digits(headline, values)) for v in values])
    return chart(name, [*lines, *marks], _COST, y, size)


def value_axis(headline: Measure) -> Axis:
    """Of values of a measure, in its unit."""

    def texts(values: Sequence[float]) -> list[str]:
        rounded = replace(headline, digits=_digits(headline, values))
        return [rounded.text(value) for value in values]

    return Axis("", texts)


def _against_cost(headline: Measure, series: Sequence[Series], size: Size) -> Drawing:
    name = f"{Words.of(headline).title} against average multiply-adds"
    return chart(name, series, _COST, value_axis(headline), size)


def _digits(headline: Measure, values: Sequence[float]) -> int:
    return decimals([value * (100 if headline.share else 1) for value in values])


def _value(row: Row) -> float:
    return row.value or 0.0


def _line(kind: str, rows: Sequence[Row], place: Place) -> Series:
    return Series(kind, [Point(row.madds or 0.0, place(row)) for row in rows])


def _marks(
    rows: Sequence[Row], headline: Measure, place: Place, error: Callable[[Row], float | None]
) -> list[Series]:
    """Squares for static widths, small dots for trials, and over them dots for chosen gates.

    error: the standard error of a row, drawn for chosen gates; None for none.
    """

    def point(row: Row) -> Point:
        name = f"target {row.target}, {row.label}" if row.target else row.label
        value = f"{headline.text(_value(row))} {headline.title}"
        title = f"{name}: {short(row.madds or 0)} multiply-adds, {value}"
        at, around = place(row), error(row) if row.chosen else None
        along = None if around is None else (at - around, at + around)
        return Point(row.madds or 0.0, at, title, along=along)

    kinds = {
        STATIC: ("square", [row for row in rows if row.kind == STATIC]),
        "trial": ("small", [row for row in rows if row.kind != STATIC and not row.chosen]),
        GATE: ("dot", [row for row in rows if row.chosen]),
    }
    return [
        Series(kind, [point(row) for row in found], line=False, mark=mark)
        for kind, (mark, found) in kinds.items()
    ]
