"""The headline against multiply-adds and against time: static widths below, dynamic ones above."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.bench.gate_accuracy import MADDS
from jobs.bench.record import Record
from jobs.bench.svg import bars, svg_figure

# Ink, and the colours of static widths and of dynamic ones, on white and on a dark page.
THEMES = {"": ("#24292f", "#b4540a", "#1d4ed8"), "-dark": ("#c9d1d9", "#f0954a", "#7aa2ff")}
BATCH = 64


def draw(records: Sequence[Record], path: Path) -> None:
    """Two SVGs without a background, the second called NAME-dark.svg; medians and bars over seeds.

    Times are those of the first seed's network at batch 64, with bars over the rounds.
    """
    for suffix, colours in THEMES.items():
        _draw(records, path.with_stem(path.stem + suffix), *colours)


def _draw(records: Sequence[Record], path: Path, ink: str, static: str, dynamic: str) -> None:
    title = records[0].name.partition(": ")[0]
    by_name = {record.name.removeprefix(f"{title}: "): record for record in records}
    names = [name.removesuffix(" MAdds") for name, r in by_name.items() if r.unit == MADDS]
    headline = next(name for name in by_name if name.startswith(f"{names[0]} ")).removeprefix(
        f"{names[0]} "
    )
    with svg_figure(path, 1, 2, figsize=(11, 4.2), sharey=True) as (figure, grid):
        figure.patch.set_alpha(0)
        panels = {
            "multiply-adds per image, millions": ("{} MAdds", 1e6),
            f"CPU ms per image, batch {BATCH}, one thread": (f"batch {BATCH} {{}}", 1.0),
        }
        for axes, (label, (what, size)) in zip(grid[0], panels.items(), strict=True):
            for kind, colour, marker, called in (
                ("width", static, "s", "one width for every image"),
                ("target", dynamic, "o", "each image its own width"),
            ):
                shown = [name for name in names if name.startswith(kind)]
                x = [by_name[what.format(name)] for name in shown]
                y = [by_name[f"{name} {headline}"] for name in shown]
                axes.errorbar(
                    [record.value / size for record in x],
                    [record.value for record in y],
                    xerr=bars(x, size),
                    yerr=bars(y),
                    fmt=f"{marker}-",
                    color=colour,
                    label=called,
                    elinewidth=0.8,
                )
            axes.set_xlabel(label)
            _ink(axes, ink)
        grid[0][0].set_ylabel(
            f"{headline} on test images, {by_name[f'{names[0]} {headline}'].unit}"
        )
        grid[0][0].yaxis.label.set_color(ink)
        grid[0][0].legend(loc="lower right", frameon=False, labelcolor=ink)
        figure.tight_layout()


def _ink(axes: Any, ink: str) -> None:
    """Everything but the lines in one colour, on no background."""
    axes.patch.set_alpha(0)
    axes.tick_params(colors=ink)
    axes.xaxis.label.set_color(ink)
    axes.grid(color=ink, alpha=0.15)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
