"""dsnet evaluate: a model on other data."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import json_flag, print_json, print_table, working

if TYPE_CHECKING:
    from dsnet import DSNet
    from pipeline.predict.evaluation import Measured


@click.command("evaluate", cls=ConfigCommand)
@click.argument("model", metavar="MODEL")
@config_flags
@click.option(
    "--budget",
    metavar="TARGET",
    help="Multiply-adds that the gates spend on average: a fraction of the widest routable "
    "sub-network's (0.5) or a count (200M); left out: as the model was tuned.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw what a classifier takes for what, and how right its confidence is.",
)
@json_flag
def command(
    model: str,
    config_file: str,
    budget: str | None,
    plot: Path | None,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Measure MODEL, a models:/ URI or a model directory, on the test images of a configuration.

    Every width by itself and, where its gates are trained, as they route; of a classifier also the
    accuracy of each class, the confusion matrix and the expected calibration error (--json has all
    of them). Images are prepared as the model wants them, at its own resolution. Their classes are
    found by name among the model's: any of them, in any order. Pictures among them that a
    registered model was trained on are counted in a warning. Nothing is registered.

    \b
    Examples:
      dsnet evaluate models:/digits@champion --config jobs/configs/digits.yaml
      dsnet evaluate ./pulled --config FILE --data.source photos/ --budget 0.5 --json
      dsnet evaluate models:/flowers --config FILE --plot flowers.svg
    """
    config = configuration(config_file, flags)
    with working():
        from pipeline.config import import_plugins
        from pipeline.data.dataset import ingest_test
        from pipeline.predict.evaluation import measure
        from pipeline.predict.model import open_model

        import_plugins(config)
        opened = open_model(model, budget)
        data = ingest_test(config)
        if model.startswith("models:"):
            from pipeline.runner.seen import warn_of_seen_in
            from pipeline.store import registry

            warn_of_seen_in(registry.resolve(model), data)
        measured = measure(opened, data, config)
        if plot is not None:
            _draw(measured, plot)
    if as_json:
        print_json({"model": model, **measured.to_dict()})
    else:
        _print(measured, opened)


def _draw(measured: "Measured", file: Path) -> None:
    from dsnet.errors import InputError
    from dsnet.io.files import atomic_file
    from pipeline.report.classes import classes

    figures = dict(zip((row.name for row in measured.rows), measured.figures, strict=True))
    if not all("confusion" in each for each in measured.figures):
        raise InputError("--plot: expected a classifier, found a model of another task")
    with atomic_file(file) as temporary:
        temporary.write_text(classes(figures))


def _print(measured: "Measured", model: "DSNet") -> None:
    measures = model.task.measures
    columns = ["network", *(each.title for each in measures), "multiply-adds", "of the widest"]
    rows: list[list[object]] = [
        [
            row.name,
            *(each.text(row.measures[each.name]) for each in measures),
            round(row.madds),
            f"{row.share:.1%}",
        ]
        for row in measured.rows
    ]
    if all("calibration_error" in figures for figures in measured.figures):
        columns.append("calibration error")
        for cells, figures in zip(rows, measured.figures, strict=True):
            cells.append(f"{figures['calibration_error']:.2%}")
    data = measured.data
    print_table(columns, rows, f"{data.samples:,} images of {data.source} {data.split}")
