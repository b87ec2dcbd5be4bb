"""Plots as SVG files, the same bytes for the same figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.bench.record import Record


@contextmanager
def svg_figure(
    path: Path, rows: int = 1, columns: int = 1, **how: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, (rows, columns) of them, to draw on; at the end it is saved.

    how: of `matplotlib.pyplot.subplots`.
    """
    import matplotlib

    matplotlib.use("svg")
    # Letters as text, and names of clips that do not change from one drawing to the next.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dsnet"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, squeeze=False, **how)
    try:
        yield figure, axes
        figure.savefig(path, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)


def bars(records: Sequence[Record], unit: float = 1.0) -> list[list[float]]:
    """Of matplotlib's error bars: from the median down to the smallest, and up to the largest."""
    return [
        [(record.value - record.spread[0]) / unit for record in records],
        [(record.spread[1] - record.value) / unit for record in records],
    ]
