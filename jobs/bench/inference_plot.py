"""Latency against multiply-adds, both on logarithmic scales, from a benchmark's records."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bench.record import Record

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
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    madds = {r.name.removesuffix(" MAdds"): r.value for r in records if r.name.endswith(" MAdds")}
    speeds = {r.name: r.value for r in records if r.unit == "images/s"}
    backends = ("onnxruntime", "torch")
    shown = [batch for batch in batches if f"batch {batch} torch {rival}" in speeds]
    figure, grid = pyplot.subplots(
        len(backends), len(shown), figsize=(5 * len(shown), 9), squeeze=False, sharex=True
    )
    for axes_row, backend in zip(grid, backends, strict=True):
        for axes, batch in zip(axes_row, shown, strict=True):
            for name, count in madds.items():
                if not name.startswith(backend) or "Predictor" in name:
                    continue
                short = name.removeprefix(f"{backend} ")
                latency = 1000 / speeds[f"batch {batch} {name}"]
                colour, marker, label = next(v for k, v in KINDS.items() if short.startswith(k))
                point = count / 1e6, latency
                axes.plot(*point, marker, color=colour, label=label, linestyle="none")
                if label == "other networks":
                    axes.annotate(
                        short, point, (-5, 3), textcoords="offset points", fontsize=7, ha="right"
                    )
            start = madds[f"{backend} {rival}"] / 1e6
            slope = 1000 / speeds[f"batch {batch} {backend} {rival}"] / start
            axes.plot([100, 5000], [100 * slope, 5000 * slope], "--", color="#bbbbbb", zorder=0)
            axes.set(xscale="log", yscale="log", title=f"{backend}, batch {batch}")
            axes.set(xlabel="multiply-adds per image, millions", ylabel="ms per image")
            axes.set_xlim(50, 6000)
    drawn = [axes.get_legend_handles_labels() for axes in grid.flat]
    legend = {
        label: handle
        for handles, labels in drawn
        for handle, label in zip(handles, labels, strict=True)
    }
    figure.legend(legend.values(), legend.keys(), ncols=len(legend), loc="lower center")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
