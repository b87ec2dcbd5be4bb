"""dsnet bench: how fast things are, each against something to compare it with."""

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from jobs.bench.scaling.assumptions import NAMES, assumption_flags, assumptions
from jobs.config_flags import ConfigCommand, configuration, field_flags, given
from jobs.output import print_table, working

if TYPE_CHECKING:
    from jobs.bench.record import Record


@dataclass(frozen=True)
class Benchmark:
    """A module of jobs.bench, imported when it is asked for.

    text: what it is of. reads: the options that mean something to it, beside those of all.
    config: the configuration that it is of where none is given, and pictures: how many for training
    and for testing that has, where they are not here.
    """

    text: str
    reads: tuple[str, ...] = ()
    config: str = "digits.yaml"
    pictures: tuple[int, int] | None = None


BENCHMARKS = {
    "inference": Benchmark(
        "predictions: fixed widths and chosen ones, beside what else there is", ("threads",)
    ),
    "operators": Benchmark(
        "predictions by kind of operator, beside what the machine can do at best", ("threads",)
    ),
    "supernet": Benchmark(
        "steps of stage I: beside the official procedure, by one worker and by two", ("threads",)
    ),
    "gate": Benchmark(
        "stage II by table and straight-through: a target's cost, accuracy at equal MAdds",
        ("threads", "config", "images", "seeds"),
    ),
    "frontier": Benchmark(
        "a sweep over seeds: gates beside static widths at equal MAdds, and in time",
        ("config", "seeds"),
    ),
    "denoise": Benchmark(
        "a denoiser beside scikit-image's, told the level, on whole pictures", ("config",)
    ),
    "loader": Benchmark(
        "pictures into batches: this loader, FFCV's own, torchvision's", ("source",)
    ),
    "serving": Benchmark("serving over HTTP under load: a fixed budget, and one that can fall"),
    "scale": Benchmark(
        "a chain on many GPUs, on paper: time, cost, and where more of them stop paying",
        ("config", "images", "test-images", "source", *NAMES),
        "imagenet_mbnet.yaml",
        (1_281_167, 50_000),  # of ILSVRC 2012
    ),
    "overhead": Benchmark("what surrounds a training: starts, imports, reports, ends"),
}
CONFIGS = Path(__file__).parents[1] / "configs"


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
    help="Class folders of pictures, for benchmarks that read pictures; left out: made up.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of what runs a network; left out: as many as there are cores.",
)
@click.option("--quick", is_flag=True, help="Little work, to see that it runs; no real figures.")
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    help="The chain that bench gate, frontier, denoise or scale is of, as YAML, its fields flags "
    "here too; left out: the demo's, and for scale the paper's on ImageNet.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Training images of bench gate or scale; left out: all of the config's.",
)
@click.option(
    "--test-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Test images of bench scale; left out: all of the config's.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Trainings behind each accuracy of bench gate or frontier.",
)
@assumption_flags
@field_flags
def command(
    benchmark: str,
    document: Path | None,
    runs: int,
    source: Path | None,
    threads: int | None,
    quick: bool,
    config_file: str | None,
    images: int | None,
    seeds: int,
    test_images: int | None,
    gpus: tuple[int, ...],
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
      dsnet bench gate --config jobs/configs/cifar10.yaml --images 2000 --gate.epochs 5
      dsnet bench scale --gpus 8,64,512 --step-ms 40 --price 2
    """
    from dsnet.io.files import atomic_file
    from jobs.bench.options import Options

    about = BENCHMARKS[benchmark]
    options = Options(runs, quick, source, threads, images=images, seeds=seeds)
    _refuse_unread(benchmark, [f"--{name}" for name in given(flags)])
    if "config" in about.reads:
        file = config_file or str(CONFIGS / about.config)
        options = replace(options, config=configuration(file, flags))
    if "gpus" in about.reads:
        known = (None, None) if config_file else about.pictures or (None, None)
        options = replace(
            options,
            images=images or known[0],
            test_images=test_images or known[1],
            gpus=gpus,
            assumptions=assumptions(flags),
        )
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
        parameter = {"config": "config_file"}.get(option, option.replace("-", "_"))
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
