"""Hours and cost of a chain against the number of GPUs, from a benchmark's records."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bench.record import Record
from jobs.bench.svg import svg_figure

COLOURS = ("#d62728", "#1f77b4")
PANELS = {"all": "hours of the whole chain, computed", "cost": "cost in $, computed"}


def draw(records: Sequence[Record], path: Path, ways: Sequence[str], counts: Sequence[int]) -> None:
    """An SVG with a panel for each of PANELS; dashed what perfect scaling would be."""
    found = {record.name: record.value for record in records}
    with svg_figure(path, 1, len(PANELS), figsize=(10, 4)) as (figure, grid):
        for axes, (what, label) in zip(grid[0], PANELS.items(), strict=True):
            for way, colour in zip(ways, COLOURS, strict=True):
                names = {n: f"computed {way}, {n} GPUs: {what}" for n in counts}
                line = {n: found[name] for n, name in names.items() if name in found}
                axes.plot([*line], [*line.values()], "o-", color=colour, label=f"global {way}")
            first = found[f"computed {ways[0]}, {counts[0]} GPUs: {what}"]
            ideal = [first / n if what == "all" else first for n in counts]
            axes.plot(counts, ideal, "--", color="#7f7f7f", label="perfect scaling")
            axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel=label)
            axes.set_xticks(counts, [str(n) for n in counts])
            axes.minorticks_off()
        grid[0][0].legend()
        figure.tight_layout()
