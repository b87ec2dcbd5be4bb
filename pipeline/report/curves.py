"""The headline of every width over a training, as an SVG that stands by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from dsnet.tasks.measure import Measure
from pipeline.report.plot import decimals, padded, ticks

Point = tuple[float, float]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 110, 40, 46
_SLIM, _WIDE, _DYNAMIC = (96, 158, 214), (11, 58, 112), "#d9620f"
_LABELLED = 5  # widths; of more, the slimmest and the widest are named
_LEADING = 14  # pixels from one name to the next
_DOTTED = 40  # points of a line that are few enough to be seen one by one


def curves(history: Sequence[Mapping[str, Any]], headline: Measure) -> str | None:
    """history: the reports of a stage; those with figures on held-out images count. None: no such.

    x is a report's step, where all have one, else its epoch.
    """
    reports = [report for report in history if "holdout" in report]
    if not reports:
        return None
    unit = "step" if all("step" in report for report in reports) else "epoch"
    lines: dict[str, list[Point]] = {}
    for number, report in enumerate(reports, start=1):
        for name, value in report["holdout"][headline.name].items():
            lines.setdefault(name, []).append((float(report.get(unit, number)), float(value)))
    return _drawing(lines, headline, unit)


def _drawing(lines: Mapping[str, list[Point]], headline: Measure, unit: str) -> str:
    points = [point for line in lines.values() for point in line]
    x_range = padded([x for x, _ in points], 0.02)
    y_range = padded([y for _, y in points], 0.05)
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (right - _LEFT)

    def y(value: float) -> float:
        return _TOP + (y_range[1] - value) / (y_range[1] - y_range[0]) * (floor - _TOP)

    marks = [_text(_LEFT, 22, f"{headline.title} on held-out images, by width", size=15)]
    up = ticks(*y_range, count=6)
    digits = decimals([value * (100 if headline.share else 1) for value in up])
    for value in up:
        marks.append(_rule(_LEFT, y(value), right, y(value)))
        label = replace(headline, digits=digits).text(value)
        marks.append(_text(_LEFT - 8, y(value) + 4, label, anchor="end"))
    marks += [
        _text(x(value), floor + 18, f"{value:,.0f}", anchor="middle")
        for value in ticks(*x_range, count=8)
        if value == round(value)  # there is no half an epoch
    ]
    marks.append(_text((_LEFT + right) / 2, _HEIGHT - 8, unit, anchor="middle"))
    colours = _colours(list(lines))
    for name, line in lines.items():
        marks.append(_line(colours[name], [(x(a), y(b)) for a, b in line], name))
    ends = {name: y(lines[name][-1][1]) for name in _named(list(lines))}
    for name, height in _apart(ends).items():
        marks.append(_text(right + 8, height + 4, name, colour=colours[name]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(marks)}</svg>\n'
    )


def _colours(names: Sequence[str]) -> dict[str, str]:
    """Widths from light to dark; what routes stands out."""
    widths = [name for name in names if name.startswith("width ")]
    colours = dict.fromkeys(names, _DYNAMIC)
    for number, name in enumerate(widths):
        share = number / max(len(widths) - 1, 1)
        mixed = (round(a + (b - a) * share) for a, b in zip(_SLIM, _WIDE, strict=True))
        colours[name] = "#" + "".join(f"{channel:02x}" for channel in mixed)
    return colours


def _named(names: Sequence[str]) -> list[str]:
    """The lines whose names have room beside them."""
    widths = [name for name in names if name.startswith("width ")]
    if len(widths) <= _LABELLED:
        return list(names)
    return [name for name in names if name in (widths[0], widths[-1]) or name not in widths]


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """The same in their order from above, moved so that no two overlap."""
    placed: dict[str, float] = {}
    lowest = _HEIGHT - _BOTTOM - _LEADING * (len(heights) - 1)
    before = -float(_LEADING)
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        before = max(before + _LEADING, min(height, lowest))
        lowest += _LEADING
        placed[name] = before
    return placed


def _line(colour: str, points: Sequence[Point], name: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = ""
    if len(points) <= _DOTTED:
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    return (
        f'<g stroke="{colour}" fill="{colour}"><title>{escape(name)}</title>'
        f'<polyline points="{places}" fill="none" stroke-width="2"/>{dots}</g>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#333", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}">{escape(text)}</text>'
    )
