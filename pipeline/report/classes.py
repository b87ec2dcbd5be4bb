"""How a classifier goes wrong, drawn: how right its confidence is, and what it takes for what."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsnet.tasks.class_tally import BINS, ClassTally

_NAMED = 40  # classes whose names have room on an axis
_SLIM, _WIDE, _DYNAMIC = "#609ed6", "#0b3a70", "#d9620f"


def classes(names: Sequence[str], tallies: Sequence[ClassTally], labels: Sequence[str]) -> str:
    """An SVG that stands by itself.

    names: of the networks, the slimmest first; the last is the one whose confusion is drawn.
    tallies: of each. labels: names of the classes, where they are known.
    """
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    reliability, confusion = figure.subplots(1, 2)
    _reliability(reliability, names, tallies)
    _confusion(confusion, names[-1], tallies[-1], labels)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _reliability(axes: Axes, names: Sequence[str], tallies: Sequence[ClassTally]) -> None:
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, linestyle=":")
    widths = [index for index, name in enumerate(names) if name.startswith("width ")]
    shown = {widths[0]: _SLIM, widths[-1]: _WIDE, len(names) - 1: _DYNAMIC}
    if len(names) - 1 == widths[-1]:  # no gate routes
        shown[widths[-1]] = _WIDE
    for index, colour in shown.items():
        tally = tallies[index]
        images = tally.images.numpy()
        full = images > 0
        error = tally.calibration_error()
        axes.plot(
            tally.sure.numpy()[full] / images[full],
            tally.right.numpy()[full] / images[full],
            marker="o",
            markersize=4,
            color=colour,
            label=f"{names[index]}: calibration error {error:.1%}",
        )
    axes.set(
        title=f"How right confidence is, in {BINS} bins",
        xlabel="mean confidence",
        ylabel="share that is right",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower right", frameon=False)


def _confusion(axes: Axes, name: str, tally: ClassTally, labels: Sequence[str]) -> None:
    counts = tally.confusion.numpy()
    rows = np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(counts / rows, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(picture, ax=axes, label="share of the class's images")
    axes.set(title=f"What {name} takes for what", xlabel="taken for", ylabel="class")
    if len(labels) == len(counts) <= _NAMED:
        places = range(len(counts))
        axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(places, labels)
