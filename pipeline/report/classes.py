"""How a classifier goes wrong, drawn: how right its confidence is, and what it takes for what."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_NAMED = 40  # classes whose names have room on an axis
_SLIM, _WIDE, _DYNAMIC = "#609ed6", "#0b3a70", "#d9620f"


def classes(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG that stands by itself.

    figures: `ClassTally.figures` of every network by its name, the slimmest first; the last is the
    one whose confusion is drawn.
    """
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    reliability, confusion = figure.subplots(1, 2)
    _reliability(reliability, figures)
    last = [*figures][-1]
    _confusion(confusion, last, figures[last])
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _reliability(axes: Axes, figures: Mapping[str, Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, linestyle=":")
    widths = [name for name in figures if name.startswith("width ")]
    dynamic = dict.fromkeys(figures.keys() - set(widths), _DYNAMIC)  # where gates route
    for name, colour in {widths[0]: _SLIM, widths[-1]: _WIDE, **dynamic}.items():
        full = [each for each in figures[name]["calibration"] if each["images"]]
        error = figures[name]["calibration_error"]
        axes.plot(
            [each["confidence"] for each in full],
            [each["right"] for each in full],
            marker="o",
            markersize=4,
            color=colour,
            label=f"{name}: calibration error {error:.1%}",
        )
    axes.set(
        title="How right confidence is",
        xlabel="mean confidence",
        ylabel="share that is right",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower right", frameon=False)


def _confusion(axes: Axes, name: str, figures: Mapping[str, Any]) -> None:
    counts, labels = np.array(figures["confusion"]), [*figures["accuracy_by_class"]]
    rows = np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(counts / rows, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(picture, ax=axes, label="share of the class's images")
    axes.set(title=f"What {name} takes for what", xlabel="taken for", ylabel="class")
    if len(labels) <= _NAMED:
        places = range(len(counts))
        axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(places, labels)
