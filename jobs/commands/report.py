"""dsnet report: the page of a sweep, or of what a version reaches."""

from pathlib import Path

import click

from jobs.output import json_flag, print_path, working


@click.command("report")
@click.argument("source", metavar="MODEL_OR_SWEEP")
@click.argument("out", metavar="OUT.html", type=click.Path(dir_okay=False, path_type=Path))
@json_flag
def command(source: str, out: Path, as_json: bool) -> None:
    """Write a report as one HTML page that needs nothing else.

    MODEL_OR_SWEEP is a models:/ URI or a model directory that a sweep registered, or the sweep's
    own folder or frontier.parquet, from which the page is drawn again. Of a models:/ URI that
    a chain registered it is what the version reaches on the test images, width by width and class
    by class.

    \b
    Examples:
      dsnet report models:/digits@target-50pct report.html
      dsnet report models:/digits@champion report.html
      dsnet report ~/.dsnet/train/sweeps/digits-0123456789ab report.html
    """
    with working():
        from pipeline.report.find import find_report

        find_report(source, out)
    print_path(out, as_json)
