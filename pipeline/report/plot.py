"""The Pareto plot as SVG: its colours are the page's own, so that it follows light and dark."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from html import escape

from dsnet.tasks.measure import Measure
from pipeline.report.frontier import best_static, by_lot
from pipeline.report.results import CASCADE, CURVE, GATE, ORACLE, STATIC, Results, Row
from pipeline.report.words import Words

Point = tuple[float, float]

_RADIUS = {"gate": 5.5, "trial": 3}
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def pareto(results: Results, width: int, height: int) -> str:
    """The headline against average multiply-adds, `width` x `height` in units of a CSS pixel."""
    headline = results.headline
    curve, static, oracle = (results.of_kind(kind) for kind in (CURVE, STATIC, ORACLE))
    gates = results.of_kind(GATE)
    known = [point_of(row) for row in oracle]
    if known and static:
        # Past its end, more multiply-adds bring the oracle nothing.
        known.append((point_of(static[-1])[0], known[-1][1]))
    lines = {
        "oracle": known,
        "static": [point_of(row) for row in static],
        "lot": [(point_of(row)[0], by_lot(results, row)) for row in curve],
        "cascade": [point_of(row) for row in results.of_kind(CASCADE)],
        "curve": [point_of(row) for row in curve],
    }
    return drawing(
        f"{Words.of(headline).title} against average multiply-adds",
        lines,
        [*static, *gates],
        point_of,
        headline,
        lambda value, digits: replace(headline, digits=digits).text(value),
        lambda row: row.stderr,
        (width, height),
    )


def gains(results: Results, width: int, height: int) -> str:
    """The difference to the best static width as dear, in the headline's steps, as `pareto`."""
    curve, static, gates = (results.of_kind(kind) for kind in (CURVE, STATIC, GATE))
    level, headline = best_static(results), results.headline
    words, unit = Words.of(headline), f", in {headline.steps}" if headline.steps else ""

    def above(row: Row) -> Point:
        madds, value = point_of(row)
        return madds, value - headline.of_error(level.at(madds))

    def by_chance(row: Row) -> Point:
        madds = point_of(row)[0]
        return madds, by_lot(results, row) - headline.of_error(level.at(madds))

    ends = [point_of(row)[0] for row in static]
    lines = {
        "static": [(min(ends), 0.0), (max(ends), 0.0)],
        "lot": [by_chance(row) for row in curve],
        "cascade": [above(row) for row in results.of_kind(CASCADE)],
        "curve": [above(row) for row in curve],
    }
    return drawing(
        f"{words.title} {words.above} the best static width{unit}, against average multiply-adds",
        lines,
        [*static, *gates],
        above,
        headline,
        headline.difference,
        lambda row: row.static_stderr,
        (width, height),
    )


def drawing(
    name: str,
    lines: dict[str, list[Point]],
    rows: Sequence[Row],
    place: Callable[[Row], Point],
    headline: Measure,
    label: Callable[[float, int], str],
    error: Callable[[Row], float | None],
    size: tuple[int, int],
) -> str:
    """Lines, and over them a mark for each row: squares, small dots, and dots for chosen gates.

    error: standard error of a row, drawn over chosen gates; None for none.
    """
    width, height = size
    points = [place(row) for row in rows] + [point for line in lines.values() for point in line]
    for row in rows:
        if row.chosen and (around := error(row)) is not None:
            madds, value = place(row)
            points += [(madds, value - around), (madds, value + around)]
    axes = _Axes(points, width, height, headline, label)
    order = {"static": 0, "trial": 1, "gate": 2}
    kinds = [(_kind(row), row) for row in rows]
    marks = [*axes.grid(), *(axes.line(kind, line) for kind, line in lines.items() if line)]
    for kind, row in sorted(kinds, key=lambda pair: order[pair[0]]):
        if kind == "gate" and (around := error(row)) is not None:
            marks.append(axes.whisker(around, *place(row)))
        marks.append(axes.mark(kind, _title(row, headline), *place(row)))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(name)}">' + "".join(marks) + "</svg>"
    )


def _kind(row: Row) -> str:
    return STATIC if row.kind == STATIC else "gate" if row.chosen else "trial"


def short(madds: float) -> str:
    """A count of multiply-adds with three digits: 118k, 1.49M, 153M."""
    size, unit = next((u for u in _UNITS if madds >= u[0] * 0.9995), _UNITS[-1])
    scaled = madds / size
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits if unit else 0}f}{unit}"


def counts(values: Sequence[float]) -> list[str]:
    """Counts of multiply-adds in one unit, with as many digits as tell them apart."""
    size, unit = next((u for u in _UNITS if max(values) >= u[0]), _UNITS[-1])
    digits = decimals([value / size for value in values])
    return [f"{value / size:.{digits}f}{unit}" for value in values]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, as close to `count` of them as round steps allow."""
    power = 10 ** math.floor(math.log10((high - low) / count))

    def within(step: float) -> list[float]:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]

    choices = [within(step * power) for step in (0.5, 1, 2, 2.5, 5, 10)]
    return min(choices, key=lambda values: abs(len(values) - count))


class _Axes:
    """From figures to places on the drawing."""

    right, top, bottom = 14, 12, 44
    _letter = 7  # the width of a figure

    def __init__(
        self,
        points: Sequence[Point],
        width: int,
        height: int,
        headline: Measure,
        label: Callable[[float, int], str],
    ) -> None:
        self.width, self.height = width, height
        self.x_range = padded([x for x, _ in points], 0.03)
        self.y_range = padded([y for _, y in points], 0.06)
        self.up = ticks(*self.y_range, count=max(3, height // 70))
        digits = decimals([value * (100 if headline.share else 1) for value in self.up])
        self.labels = [label(value, digits) for value in self.up]
        self.left = max(64, 15 + self._letter * max(map(len, self.labels)))

    def x(self, madds: float) -> float:
        low, high = self.x_range
        return self.left + (madds - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        plot = self.height - self.top - self.bottom
        return self.top + (high - value) / (high - low) * plot

    def grid(self) -> list[str]:
        """Lines and labels of both axes."""
        floor, end = self.height - self.bottom, self.width - self.right
        marks = []
        across = ticks(*self.x_range, count=max(3, self.width // 110))
        for madds, text in zip(across, counts(across), strict=True):
            x = self.x(madds)
            marks.append(_line("grid", x, self.top, x, floor))
            marks.append(_text("middle", x, floor + 18, text))
        for value, text in zip(self.up, self.labels, strict=True):
            y = self.y(value)
            marks.append(_line("grid", self.left, y, end, y))
            marks.append(_text("end", self.left - 8, y + 4, text))
        middle = (self.left + end) / 2
        marks.append(_text("middle", middle, self.height - 6, "multiply-adds per image, average"))
        return marks

    def line(self, kind: str, points: Iterable[Point]) -> str:
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="line {kind}" points="{places}"/>'

    def whisker(self, error: float, madds: float, value: float) -> str:
        x = self.x(madds)
        return _line("whisker", x, self.y(value - error), x, self.y(value + error))

    def mark(self, kind: str, title: str, madds: float, value: float) -> str:
        x, y = self.x(madds), self.y(value)
        if kind == STATIC:
            shape, where = "rect", f'x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"'
        else:
            shape, where = "circle", f'cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS[kind]}"'
        return f'<{shape} class="dot {kind}" {where}>{title}</{shape}>'


def point_of(row: Row) -> Point:
    """Where a row lies: multiply-adds, and what they buy."""
    return row.madds or 0.0, row.value or 0.0


def decimals(values: Sequence[float]) -> int:
    """Decimals that evenly spaced values need."""
    step = values[1] - values[0] if len(values) > 1 else 1.0
    return next((d for d in range(6) if abs(round(step, d) - step) < 1e-6 * step), 6)


def _title(row: Row, headline: Measure) -> str:
    name = f"target {row.target}, {row.label}" if row.target else row.label
    value = f"{headline.text(row.value or 0.0)} {headline.title}"
    figures = f"{short(row.madds or 0)} multiply-adds, {value}"
    return f"<title>{escape(name)}: {figures}</title>"


def padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * share or max(abs(high), 1.0) * share
    return low - pad, high + pad


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(anchor: str, x: float, y: float, text: str) -> str:
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
