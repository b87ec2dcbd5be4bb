"""Top-1 against average multiply-adds: both ways' gates and the static widths."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bench.gate_accuracy import MADDS
from jobs.bench.record import Record
from jobs.bench.svg import svg_figure

# Colour and marker by what the name says; the first that is in it counts.
KINDS = {
    "best of five straight-through": ("#ff9896", "v", "straight-through at a target, best of five"),
    "best of five table": ("#9edae5", "^", "table at the same target"),
    "straight-through": ("#d62728", "D", "straight-through where it lands"),
    "table": ("#1f77b4", "o", "table at the same average"),
    "width": ("#7f7f7f", "s", "one width for all"),
}


def draw(records: Sequence[Record], path: Path) -> None:
    """An SVG; medians over the seeds, with bars from the smallest to the largest."""
    madds = {r.name.removesuffix(" MAdds"): r for r in records if r.unit == MADDS}
    right = {r.name.removesuffix(" top-1"): r for r in records if r.name.endswith(" top-1")}
    with svg_figure(path, figsize=(8, 5.5)) as (figure, ((axes,),)):
        for kind, (colour, marker, label) in KINDS.items():
            names = [name for name in madds if kind == _kind(name)]
            if not names:
                continue
            x, y = [madds[name] for name in names], [right[name] for name in names]
            axes.errorbar(
                [record.value / 1e6 for record in x],
                [record.value for record in y],
                xerr=_bars(x, 1e6),
                yerr=_bars(y, 1),
                fmt=marker,
                color=colour,
                label=label,
                linestyle="--" if kind == "width" else "none",
                elinewidth=0.8,
            )
        axes.set(xlabel="multiply-adds per image, millions", ylabel="top-1 on test images, %")
        axes.legend()
        figure.tight_layout()


def _kind(name: str) -> str:
    return next(kind for kind in KINDS if kind in name)


def _bars(records: Sequence[Record], unit: float) -> list[list[float]]:
    """From the median down to the smallest, and up to the largest."""
    return [
        [(record.value - record.spread[0]) / unit for record in records],
        [(record.spread[1] - record.value) / unit for record in records],
    ]
