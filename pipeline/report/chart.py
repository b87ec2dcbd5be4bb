"""Charts as SVG: lines, marks and whiskers, in the colours of chart.css, light and dark."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("chart.css")

Span = tuple[float, float]

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_RIGHT, _TOP, _BOTTOM = 14, 12, 44
_LETTER = 7.2  # pixels that a figure takes
_LEADING = 20  # pixels from a line of text to the next
_MARGIN = 16  # around drawings that stand by themselves
_RADIUS = {"dot": 5.5, "small": 3}


@dataclass(frozen=True)
class Point:
    """A place on a chart."""

    x: float
    y: float
    title: str = ""
    """What its mark says under the pointer."""
    across: Span | None = None
    """A whisker along x, from and to."""
    along: Span | None = None
    """A whisker along y."""


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    kind: str
    """Class in chart.css: what colour, which dashes."""
    points: Sequence[Point]
    name: str = ""
    """Of its line, under the pointer, and in the legend."""
    listed: bool = True
    """Whether the legend has it, if it has a name."""
    line: bool = True
    """Whether points are joined."""
    mark: str = ""
    """Of each point: "square", "dot", "small" for a small dot, or nothing."""
    ramp: float | None = None
    """Of the kind "ramp": its colour between the slimmest's, 0, and the widest's, 1."""

    def look(self, shape: str) -> str:
        """Attributes of its marks of a shape: their classes and colour."""
        ramp = "" if self.ramp is None else f' style="--t:{self.ramp:.0%}"'
        return f'class="{shape} {self.kind}"{ramp}'


@dataclass(frozen=True)
class Axis:
    """One direction of a chart."""

    label: str
    texts: Callable[[Sequence[float]], list[str]] | None = None
    """Labels for round values, None for figures; an empty label is left out, with its line."""
    log: bool = False
    """Whether the scale is logarithmic."""
    span: Span | None = None
    """From and to, of a scale that is not logarithmic; None: where the points lie, and a margin."""


@dataclass(frozen=True)
class Drawing:
    """An SVG in the making."""

    name: str
    """What it shows, for those who do not see it, and as a heading."""
    width: int
    """Pixels."""
    height: int
    marks: str

    def inline(self) -> str:
        """For a page that has chart.css."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-label="{escape(self.name)}">{self.marks}</svg>'
        )


def alone(*drawings: Drawing) -> str:
    """An SVG file: drawings below each other, each under its name."""
    width = max(each.width for each in drawings) + 2 * _MARGIN
    parts, top = [], _MARGIN
    for each in drawings:
        parts.append(text("start", _MARGIN, top + 14, each.name, 'class="heading"'))
        moved = each.inline().replace("<svg ", f'<svg x="{_MARGIN}" y="{top + 24}" ', 1)
        parts.append(moved)
        top += 24 + each.height + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" '
        f'height="{top}"><style>{STYLE.read_text()}</style>'
        f'<rect class="sheet" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def chart(
    name: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    size: tuple[int, int] = (440, 300),
    *,
    legend: bool = False,
) -> Drawing:
    """All lines, and over them the marks, both in the order of `series`.

    size: in CSS pixels, without the legend, which is below.
    """
    width, height = size
    points = [point for each in series for point in each.points]
    rows = _Scale(y, [(p.y, p.along) for p in points], (height - _BOTTOM, _TOP), height // 70)
    left = round(max(64.0, 15 + _LETTER * max(map(len, rows.texts), default=0)))
    columns = _Scale(x, [(p.x, p.across) for p in points], (left, width - _RIGHT), width // 110)
    marks = [*_grid(columns, rows, width, height)]
    marks += [_line(each, columns, rows) for each in series if each.line and each.points]
    for each in series:
        for point in each.points:
            marks += _whiskers(each, point, columns, rows)
            marks.append(_mark(each, columns(point.x), rows(point.y), point.title))
    if legend:
        named = list({each.name: each for each in series if each.name and each.listed}.values())
        marks += [_key(each, height + 14 + _LEADING * row, left) for row, each in enumerate(named)]
        height += 14 + _LEADING * len(named)
    return Drawing(name, width, height, "".join(marks))


class _Scale:
    """From values to pixels, with round values to label."""

    def __init__(
        self, axis: Axis, values: Iterable[tuple[float, Span | None]], pixels: Span, count: int
    ) -> None:
        self.label, self.pixels = axis.label, pixels
        self.place = math.log10 if axis.log else float
        places = [self.place(v) for value, span in values for v in (value, *(span or ()))]
        self.low, self.high = axis.span or padded(places, 0.05)
        make = log_ticks if axis.log else ticks
        found = make(self.low, self.high, max(3, count))
        shown = (axis.texts or (figures if axis.log else even_figures))(found)
        self.ticks = [value for value, label in zip(found, shown, strict=True) if label]
        self.texts = [label for label in shown if label]

    def __call__(self, value: float) -> float:
        share = (self.place(value) - self.low) / (self.high - self.low)
        return self.pixels[0] + share * (self.pixels[1] - self.pixels[0])


def _grid(x: _Scale, y: _Scale, width: int, height: int) -> Iterator[str]:
    """Lines and labels of both axes."""
    (left, right), (floor, top) = x.pixels, y.pixels
    for value, label in zip(x.ticks, x.texts, strict=True):
        yield _rule("grid", x(value), top, x(value), floor)
        yield text("middle", x(value), floor + 18, label)
    for value, label in zip(y.ticks, y.texts, strict=True):
        yield _rule("grid", left, y(value), right, y(value))
        yield text("end", left - 8, y(value) + 4, label)
    yield text("middle", (left + right) / 2, height - 6, x.label)


def _line(series: Series, x: _Scale, y: _Scale) -> str:
    places = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in series.points)
    title = f"<title>{escape(series.name)}</title>" if series.name else ""
    return f'<polyline {series.look("line")} points="{places}">{title}</polyline>'


def _whiskers(series: Series, point: Point, x: _Scale, y: _Scale) -> Iterator[str]:
    across, up, kind = x(point.x), y(point.y), f"whisker {series.kind}"
    if point.along is not None:
        yield _rule(kind, across, y(point.along[0]), across, y(point.along[1]))
    if point.across is not None:
        yield _rule(kind, x(point.across[0]), up, x(point.across[1]), up)


def _mark(series: Series, x: float, y: float, title: str = "") -> str:
    if not series.mark:
        return ""
    shape, where = "circle", f'cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS.get(series.mark)}"'
    if series.mark == "square":
        shape, where = "rect", f'x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"'
    said = f"<title>{escape(title)}</title>" if title else ""
    return f"<{shape} {series.look('dot')} {where}>{said}</{shape}>"


def _key(series: Series, y: float, left: float) -> str:
    """A line of the legend."""
    line = f'<polyline {series.look("line")} points="{left},{y} {left + 28},{y}"/>'
    mark = _mark(series, left + 14, y)
    return (line if series.line else "") + mark + text("start", left + 38, y + 4, series.name)


def _rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(anchor: str, x: float, y: float, words: str, more: str = "") -> str:
    """A line of text. anchor: which end of it lies at x; more: attributes."""
    return f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


# Numbers -----------------------------------------------------------------------------------------


def short(madds: float) -> str:
    """A count of multiply-adds with three digits: 118k, 1.49M, 153M."""
    size, unit = next((u for u in _UNITS if madds >= u[0] * 0.9995), _UNITS[-1])
    scaled = madds / size
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits if unit else 0}f}{unit}"


def counts(values: Sequence[float]) -> list[str]:
    """Counts of multiply-adds in one unit, with as many digits as they need to differ."""
    size, unit = next((u for u in _UNITS if max(values) >= u[0]), _UNITS[-1])
    digits = decimals([value / size for value in values])
    return [f"{value / size:.{digits}f}{unit}" for value in values]


def figures(values: Sequence[float]) -> list[str]:
    """Values by themselves."""
    return [f"{value:,g}" for value in values]


def even_figures(values: Sequence[float]) -> list[str]:
    """Evenly spaced values with the decimals that they need."""
    return [f"{value:,.{decimals(values)}f}" for value in values]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, as close to `count` of them as round steps allow."""
    power = 10 ** math.floor(math.log10((high - low) / count))

    def within(step: float) -> list[float]:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]

    choices = [within(step * power) for step in (0.5, 1, 2, 2.5, 5, 10)]
    return min(choices, key=lambda values: abs(len(values) - count))


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from 10^low to 10^high: 1, 2 and 5 of each power, or fewer.

    Within one power they may be too few: then evenly spaced ones.
    """

    def within(*digits: int) -> list[float]:
        powers = range(math.floor(low), math.ceil(high) + 1)
        every = [digit * 10.0**power for power in powers for digit in digits]
        return [value for value in every if low - 1e-9 <= math.log10(value) <= high + 1e-9]

    choices = (within(1, 2, 5), within(1, 3), within(1))
    found = min(choices, key=lambda values: abs(len(values) - count))
    return found if len(found) > 1 else ticks(10**low, 10**high, count)


def decimals(values: Sequence[float]) -> int:
    """Decimals that evenly spaced values need."""
    step = values[1] - values[0] if len(values) > 1 else 1.0
    return next((d for d in range(6) if abs(round(step, d) - step) < 1e-6 * step), 6)


def padded(values: Sequence[float], share: float) -> Span:
    """The least and the greatest, and beyond both a share of what is between."""
    low, high = min(values), max(values)
    pad = (high - low) * share or max(abs(high), 1.0) * share
    return low - pad, high + pad
