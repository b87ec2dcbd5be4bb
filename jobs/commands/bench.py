"""dsnet bench: how fast things are, each against something to compare it with."""

import importlib
import json
from pathlib import Path

import click

from jobs.output import print_table, working

# Each is a module of jobs.bench, imported when it is asked for.
BENCHMARKS = {
    "inference": "predictions: fixed widths and chosen ones, beside what else there is",
    "operators": "predictions by kind of operator, beside what the machine can do at best",
    "supernet": "steps of stage I: what is shared, memory layout, optimizer",
    "loader": "pictures into batches: this loader, FFCV's own, torchvision's",
    "overhead": "what surrounds a training: starts, imports, reports, ends",
}


def contents() -> str:
    return "\n".join(f"  {name:<11}{text}" for name, text in BENCHMARKS.items())


@click.command("bench", epilog=f"\b\nBenchmarks:\n{contents()}")
@click.argument("name", metavar="NAME", type=click.Choice(list(BENCHMARKS)))
@click.option(
    "--json",
    "document",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the records to this file, as one JSON document.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Rounds; in each, everything is measured once.",
)
@click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Class folders of pictures, for benchmarks that read pictures; left out: made up.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of what runs a network; left out: as many as there are cores.",
)
@click.option("--quick", is_flag=True, help="Little work, to see that it runs; no real figures.")
def command(
    name: str,
    document: Path | None,
    runs: int,
    source: Path | None,
    threads: int | None,
    quick: bool,
) -> None:
    """Measure in turns, A B A B, and print medians, smallest to largest, and ratios.

    A ratio is the median over the rounds of a row's value over that of the row it is compared
    with.

    \b
    Examples:
      dsnet bench loader
      dsnet bench supernet --runs 9 --json supernet.json
    """
    from dsnet.atomic import atomic_file
    from jobs.bench.options import Options

    with working():
        benchmark = importlib.import_module(f"jobs.bench.{name}")
        records = benchmark.bench(Options(runs, quick, source, threads))
    if document is not None:
        with atomic_file(document) as temporary:
            temporary.write_text(
                json.dumps([record.to_dict() for record in records], indent=2) + "\n"
            )
        if hasattr(benchmark, "draw"):
            benchmark.draw(records, document.with_suffix(".svg"))
    rows = [
        (
            record.name,
            record.unit,
            _digits(record.value),
            f"{_digits(record.spread[0])} to {_digits(record.spread[1])}",
            record.runs,
            "" if record.ratio is None else f"{record.ratio:.2f} x {record.against}",
        )
        for record in records
    ]
    print_table(("name", "unit", "median", "spread", "runs", "ratio"), rows)


def _digits(value: float) -> str:
    """Three significant digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
