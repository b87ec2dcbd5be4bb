"""Plots as SVG files, the same bytes for the same figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
