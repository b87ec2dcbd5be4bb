"""dsnet sweep: what does each budget buy?"""

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobs.commands.models import print_versions, version_as_json
from jobs.config_flags import (
    ConfigCommand,
    config_flags,
    configuration,
    print_config,
    print_config_flag,
)
from jobs.output import json_flag, print_json, print_table, print_unlearned, program, working
from pipeline.cluster.events import told

if TYPE_CHECKING:
    from dsnet.routing.target import Target
    from pipeline.sweep.run import SweepResult


targets_flag = click.option(
    "--targets",
    required=True,
    metavar="LIST",
    help="Average multiply-adds wanted, separated by commas: fractions of the widest routable "
    "sub-network's (0.5) or counts (200M).",
)


def parse_targets(text: str) -> "list[Target]":
    """`0.3,0.5,200M` as targets. Raises InputError for anything else."""
    from dsnet.routing.target import parse_target

    return [parse_target(part) for part in text.split(",") if part.strip()]


@click.command("sweep", cls=ConfigCommand)
@config_flags
@targets_flag
@print_config_flag
@json_flag
def command(config_file: str, targets: str, show: bool, as_json: bool, **flags: str | None) -> None:
    """Train a gate for every target on one routing table, register the best, draw the frontier.

    The supernet and its table are made once, whatever the number of targets. With
    --gate.method straight_through, or more joint paths than a table is for, each target is trained
    through the network, one after the other. A sweep that was interrupted goes on where it stopped.

    \b
    Examples:
      dsnet sweep --config jobs/configs/digits.yaml --targets 0.3,0.5,0.7
      dsnet sweep --config FILE --targets 0.5,200M --gate.supernet models:/digits-supernet/2
    """
    config = configuration(config_file, flags)
    wanted = parse_targets(targets)
    if show:
        print_config(config, as_json)
        return
    with working():
        from pipeline.sweep.run import sweep

        with told("sweep", config.name):
            result = sweep(config, wanted, shlex.join(["dsnet", *sys.argv[1:]]))
    for row in result.results.rows:
        if row.error:
            click.echo(f"trial {row.label} failed: {row.error}", err=True)
    if as_json:
        print_json(sweep_as_json(result))
        print_unlearned(result.versions[0].uri, result.unlearned)
    else:
        print_sweep(result)


def sweep_as_json(result: "SweepResult") -> dict[str, Any]:
    """The best gate of each target, what was registered, and where the report is."""
    return {
        "targets": [asdict(row) for row in result.results.chosen],
        "versions": [version_as_json(version) for version in result.versions],
        "seconds": result.results.about.seconds,
        "not_learned": result.unlearned,
        "page": str(result.page),
        "parquet": str(result.parquet),
    }


def print_sweep(result: "SweepResult") -> None:
    """The best gate of each target, what was registered, and where the report is."""
    about, headline = result.results.about, result.results.headline
    rows = [
        (
            row.target,
            headline.text(row.value or 0.0),
            headline.text(row.value_stderr or 0.0),
            f"{row.madds or 0:,.0f}",
            f"{(row.madds or 0) / (row.target_madds or 1) - 1:+.1%}",
            row.label,
        )
        for row in result.results.chosen
    ]
    first = next(row.uri for row in result.results.chosen)
    title = f"{about.name}: the best gate of each target, on {about.images:,} test images"
    columns = ("target", headline.title, "standard error", "multiply-adds", "off target", "gate")
    print_table(columns, rows, title)
    print_versions(result.versions)
    click.echo(
        f"{about.seconds:.0f} s in all\n"
        "Look further:\n"
        f"  {result.page}    the report, one page\n"
        f"  {result.parquet}    its figures\n"
        f"  {program('dsnet')} predict {first} IMAGE..."
    )
    print_unlearned(result.versions[0].uri, result.unlearned)
