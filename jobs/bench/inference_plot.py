"""Latency against multiply-adds, both on logarithmic scales, from a benchmark's records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.bench.record import Record
from jobs.bench.svg import svg_figure

BACKENDS = ("onnxruntime", "torch")

# Colour and marker by what a row is; the first that begins a row's name counts.
KINDS = {
    "floor": ("#1f77b4", "o", "one sub-network, exported alone"),
    "DS-MBNet all": ("#2ca02c", "s", "DS-MBNet, every image at one width"),
    "DS-MBNet": ("#d62728", "D", "DS-MBNet, dynamic"),
    "eager": ("#9467bd", "v", "DS-MBNet, eager slices"),
    "": ("#7f7f7f", "^", "other networks"),
}


def draw(records: Sequence[Record], path: Path, rival: str, batches: Sequence[int]) -> None:
    """An SVG with a panel for each batch size and backend.

    The line is what `rival` would take if time were proportional to multiply-adds.
    """
    madds = {r.name.removesuffix(" MAdds"): r.value for r in records if r.name.endswith(" MAdds")}
    speeds = {r.name: r.value for r in records if r.unit == "images/s"}
    shown = [batch for batch in batches if f"batch {batch} torch {rival}" in speeds]
    size = (5 * len(shown), 9)
    with svg_figure(path, len(BACKENDS), len(shown), figsize=size, sharex=True) as (figure, grid):
        for axes_row, backend in zip(grid, BACKENDS, strict=True):
            ours = {name: n for name, n in madds.items() if name.startswith(f"{backend} ")}
            for axes, batch in zip(axes_row, shown, strict=True):
                latency = {name: 1000 / speeds[f"batch {batch} {name}"] for name in ours}
                _panel(axes, ours, latency, f"{backend} {rival}")
                axes.set_title(f"{backend}, batch {batch}")
        legend: dict[str, Any] = {}
        for axes in grid.flat:
            handles, labels = axes.get_legend_handles_labels()
            legend |= dict(zip(labels, handles, strict=True))
        figure.legend(legend.values(), legend.keys(), ncols=len(legend), loc="lower center")
        figure.tight_layout(rect=(0, 0.04, 1, 1))


def _panel(axes: Any, madds: dict[str, float], latency: dict[str, float], rival: str) -> None:
    """A mark for each network, and the line through `rival`."""
    for name, count in madds.items():
        if "Predictor" in name:
            continue
        short = name.partition(" ")[2]
        colour, marker, label = next(v for k, v in KINDS.items() if short.startswith(k))
        point = count / 1e6, latency[name]
        axes.plot(*point, marker, color=colour, label=label, linestyle="none")
        if label == "other networks":
            where = {"textcoords": "offset points", "fontsize": 7, "ha": "right"}
            axes.annotate(short, point, (-5, 3), **where)
    slope = latency[rival] / (madds[rival] / 1e6)
    axes.plot([100, 5000], [100 * slope, 5000 * slope], "--", color="#bbbbbb", zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(50, 6000))
    axes.set(xlabel="multiply-adds per image, millions", ylabel="ms per image")
