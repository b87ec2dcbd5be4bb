"""dsnet bench: how fast things are, each against something to compare it with."""

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from jobs.config_flags import ConfigCommand, configuration, field_flags, given
from jobs.output import print_table, working

if TYPE_CHECKING:
    from jobs.bench.record import Record


@dataclass(frozen=True)
class Benchmark:
    """A module of jobs.bench, imported when it is asked for."""

    text: str
    """What it measures."""
    reads: tuple[str, ...] = ()
    """Options that it reads, apart from those that all do."""


BENCHMARKS = {
    "inference": Benchmark(
        "predictions: fixed widths and chosen ones, compared with other networks", ("threads",)
    ),
    "supernet": Benchmark(
        "steps of stage I: compared with the official procedure, by one worker and by two",
        ("threads",),
    ),
    "frontier": Benchmark(
        "a sweep over seeds: gates and static widths at equal MAdds, and in time",
        ("config", "seeds"),
    ),
    "denoise": Benchmark(
        "a denoiser compared with scikit-image's, which are told the noise level", ("config",)
    ),
    "loader": Benchmark(
        "pictures into batches: this loader, FFCV's own, torchvision's", ("source",)
    ),
    "serving": Benchmark("serving over HTTP under load: a fixed budget, and one that can fall"),
    "overhead": Benchmark("what surrounds a training: starts, imports, reports, ends"),
}
DEMO = str(Path(__file__).parents[1] / "configs" / "digits.yaml")


def contents() -> str:
    return "\n".join(f"  {name:<11}{each.text}" for name, each in BENCHMARKS.items())


@click.command("bench", cls=ConfigCommand, epilog=f"\b\nBenchmarks:\n{contents()}")
@click.argument("benchmark", metavar="NAME", type=click.Choice(list(BENCHMARKS)))
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
    help="Class folders of pictures for bench loader; left out: made pictures.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of bench inference or supernet; left out: as many as there are cores.",
)
@click.option("--quick", is_flag=True, help="Little work, to see that it runs; no real figures.")
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    help="The chain of bench frontier or denoise, as YAML, its fields flags here too; left out: "
    "the demo's.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Trainings behind each accuracy of bench frontier.",
)
@field_flags
def command(
    benchmark: str,
    document: Path | None,
    runs: int,
    source: Path | None,
    threads: int | None,
    quick: bool,
    config_file: str | None,
    seeds: int,
    **flags: str | None,
) -> None:
    """Measure in turns, A B A B, and print medians, smallest to largest, and ratios.

    A ratio is the median over the rounds of a row's value over that of the row it is compared
    with.

    \b
    Examples:
      dsnet bench loader
      dsnet bench supernet --runs 9 --json supernet.json
      dsnet bench frontier --config jobs/configs/fashion_mnist.yaml --json fashion.json
      dsnet bench denoise --config jobs/configs/denoise.yaml
    """
    from dsnet.io.files import atomic_file
    from jobs.bench.options import Options

    _refuse_unread(benchmark, [f"--{name}" for name in given(flags)])
    options = Options(runs, quick, source, threads, seeds=seeds)
    if "config" in BENCHMARKS[benchmark].reads:
        options = replace(options, config=configuration(config_file or DEMO, flags))
    with working():
        module = importlib.import_module(f"jobs.bench.{benchmark}")
        records = module.bench(options)
    if document is not None:
        with atomic_file(document) as temporary:
            temporary.write_text(
                json.dumps([record.to_dict() for record in records], indent=2) + "\n"
            )
        if hasattr(module, "draw"):
            module.draw(records, document.with_suffix(".svg"))
    shared = _shared([record.name for record in records])
    rows = [
        (
            record.name.removeprefix(shared),
            record.unit,
            _digits(record.value),
            f"{_digits(record.spread[0])} to {_digits(record.spread[1])}",
            record.runs,
            _ratio(record, shared),
        )
        for record in records
    ]
    columns = ("name", "unit", "median", "spread", "runs", "ratio")
    print_table(columns, rows, title=shared.rstrip(": "))


def _refuse_unread(benchmark: str, fields: list[str]) -> None:
    """Raise UsageError for an option that this benchmark would not read.

    fields: flags of the configuration's fields that were given.
    """
    context = click.get_current_context()
    reads = BENCHMARKS[benchmark].reads
    for option in sorted({name for each in BENCHMARKS.values() for name in each.reads}):
        parameter = "config_file" if option == "config" else option
        asked = context.get_parameter_source(parameter) is not ParameterSource.DEFAULT
        flags = [f"--{option}"] * asked + fields * (option == "config")
        if flags and option not in reads:
            readers = ", ".join(name for name, each in BENCHMARKS.items() if option in each.reads)
            raise click.UsageError(
                f"{flags[0]}: expected a benchmark that reads it ({readers}), found {benchmark}"
            )


def _shared(names: list[str]) -> str:
    """What all names say first, up to a colon; said once, it leaves room for the rest."""
    first, colon, _ = names[0].partition(": ")
    shared = first + colon
    return shared if colon and all(name.startswith(shared) for name in names) else ""


def _ratio(record: "Record", shared: str) -> str:
    if record.ratio is None or record.against is None:
        return ""
    return f"{record.ratio:.2f} x {record.against.removeprefix(shared)}"


def _digits(value: float) -> str:
    """Three significant digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
