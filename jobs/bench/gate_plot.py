"""The headline measure against average multiply-adds: both ways' gates and the static widths."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bench.gate_accuracy import MADDS
from jobs.bench.record import Record
from jobs.bench.svg import bars, svg_figure

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
    title, unit = _headline(records)
    values = {r.name.removesuffix(f" {title}"): r for r in records if r.name.endswith(f" {title}")}
    with svg_figure(path, figsize=(8, 5.5)) as (figure, ((axes,),)):
        for kind, (colour, marker, label) in KINDS.items():
            names = [name for name in madds if kind == _kind(name)]
            if not names:
                continue
            x, y = [madds[name] for name in names], [values[name] for name in names]
            axes.errorbar(
                [record.value / 1e6 for record in x],
                [record.value for record in y],
                xerr=bars(x, 1e6),
                yerr=bars(y, 1),
                fmt=marker,
                color=colour,
                label=label,
                linestyle="--" if kind == "width" else "none",
                elinewidth=0.8,
            )
        axes.set(
            xlabel="multiply-adds per image, millions", ylabel=f"{title} on test images, {unit}"
        )
        axes.legend()
        figure.tight_layout()


def _headline(records: Sequence[Record]) -> tuple[str, str]:
    """Title and unit of what is compared, as the widths' records name it."""
    widths = (record for record in records if ": width " in record.name and record.unit != MADDS)
    width = next(widths)
    return width.name.rpartition(": width ")[2].partition(" ")[2], width.unit


def _kind(name: str) -> str:
    return next(kind for kind in KINDS if kind in name)
