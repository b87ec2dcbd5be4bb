"""Latency, throughput and budget against load, from a benchmark's records."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bench.record import Record
from jobs.bench.svg import bars, svg_figure

COLOURS = ("#7f7f7f", "#d62728")
PANELS = {
    "p99": "99th percentile, ms",
    "throughput": "answered while the load lasts, images/s",
    "budget": "mean budget, of the widest route",
}


def draw(
    records: Sequence[Record],
    path: Path,
    loads: Sequence[float],
    servers: Sequence[str],
    p99: float,
) -> None:
    """An SVG with a panel for each of PANELS. p99: seconds to hold, drawn as a line."""
    by_name = {record.name: record for record in records}
    with svg_figure(path, 1, len(PANELS), figsize=(13, 4)) as (figure, grid):
        for axes, (what, label) in zip(grid[0], PANELS.items(), strict=True):
            for server, colour in zip(servers, COLOURS, strict=True):
                shown = [by_name[f"serving {load:g}x {server} {what}"] for load in loads]
                values = [record.value for record in shown]
                axes.errorbar(
                    loads, values, bars(shown), fmt="o-", color=colour, capsize=3, label=server
                )
            axes.set(xlabel="load, times what the full budget serves", ylabel=label)
            if what == "p99":
                axes.set_yscale("log")
                axes.axhline(1000 * p99, linestyle="--", color="#1f77b4", label="to hold")
            else:
                axes.set_ylim(bottom=0)
        grid[0][0].legend()
        figure.tight_layout()
