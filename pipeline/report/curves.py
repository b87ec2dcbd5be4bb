"""The headline of every width over a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from dsnet.tasks.measure import Measure
from pipeline.report.chart import Axis, Point, Series, alone, chart
from pipeline.report.plot import value_axis

_NAMED = 5  # widths; of more, the slimmest and the widest are in the legend
_DOTTED = 40  # points of a line that are few enough to be seen one by one


def curves(history: Sequence[Mapping[str, Any]], headline: Measure) -> str | None:
    """An SVG file; None where no report has figures on held-out images.

    history: the reports of a stage. x is a report's step, where all have one, else its epoch.
    """
    reports = [report for report in history if "holdout" in report]
    if not reports:
        return None
    unit = "step" if all("step" in report for report in reports) else "epoch"
    points: dict[str, list[Point]] = {}
    for number, report in enumerate(reports, start=1):
        for name, value in report["holdout"][headline.name].items():
            when = float(report.get(unit, number))
            title = f"{name}, {unit} {when:,.0f}: {headline.text(value)}"
            points.setdefault(name, []).append(Point(when, float(value), title))
    title, size = f"{headline.title} on held-out images, by width", (720, 380)
    x, y = Axis(unit, _whole), value_axis(headline)
    return alone(chart(title, _lines(points), x, y, size, legend=True))


def _lines(points: Mapping[str, Sequence[Point]]) -> list[Series]:
    """Widths from light to dark; what routes stands out."""
    widths = [name for name in points if name.startswith("width ")]
    shown = widths if len(widths) <= _NAMED else [widths[0], widths[-1]]
    return [
        Series(
            "ramp" if name in widths else "dynamic",
            line,
            name,
            listed=name in shown or name not in widths,
            mark="small" if len(line) <= _DOTTED else "",
            ramp=widths.index(name) / max(len(widths) - 1, 1) if name in widths else None,
        )
        for name, line in points.items()
    ]


def _whole(values: Sequence[float]) -> list[str]:
    """There is no half an epoch."""
    return [f"{value:,.0f}" if value == round(value) else "" for value in values]
