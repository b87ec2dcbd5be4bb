"""dsnet run: the whole chain of a configuration."""

import shlex
from typing import TYPE_CHECKING, Any

import click

from jobs.commands.models import print_versions, version_as_json
from jobs.config_flags import (
    ConfigCommand,
    config_or_version_flags,
    configuration_of,
    print_config,
    print_config_flag,
)
from jobs.output import print_json, print_table, print_unlearned, program, working
from pipeline.cluster.events import told
from pipeline.runner.force import STAGES, Force

if TYPE_CHECKING:
    from pipeline.chain import ChainResult


force_flag = click.option(
    "--force",
    "forced",
    multiple=True,
    metavar="STAGE",
    help="Run this stage again although its result exists, and all that follows from it: one of "
    f"{', '.join(STAGES)}. Several: again, or with commas.",
)


@click.command("run", cls=ConfigCommand)
@config_or_version_flags
@force_flag
@print_config_flag
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    config_file: str | None,
    from_version: str | None,
    forced: tuple[str, ...],
    show: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Run the whole chain: ingest, supernet, calibrate, gate, evaluate, register.

    It says first, stage by stage, what is found and what will run, and why: a stage is
    found again by what its result depends on (the fields that it reads, its inputs, the data), so a
    chain that was interrupted goes on where it stopped, and a changed gate.target runs the gate and
    what follows alone. Any field of the configuration can be changed by a flag.

    A classifier that did not learn (a width at chance level on the test images, or less than a
    tenth of the way from chance to 100%) is registered, but becomes no champion and takes no alias;
    the last line says so, and the exit status is 0.

    A supernet can start from another's weights (supernet.from): a registered model, or a folder
    that import-official made. --force trains from nothing what exists already, and registers it
    as new versions; the old ones stay. Interrupted, the same command goes on with it.

    \b
    Examples:
      dsnet run --config jobs/configs/digits.yaml
      dsnet run --config jobs/configs/digits.yaml --gate.target 0.4 --supernet.epochs 20
      dsnet run --config FILE --force gate
      dsnet run --from-version digits/3 --gate.target 0.3
      dsnet run --from-version digits/3 --print-config > digits.yaml
      dsnet run --config FILE --supernet.from models:/digits-supernet/2 --supernet.trunk_lr 0.1
      dsnet run --config FILE --supernet.from ./official --supernet.freeze stem,stages.0
    """
    force = Force.of(forced)
    with working():
        config = configuration_of(config_file, from_version, flags)
    if show:
        print_config(config, as_json)
        return
    with working():
        from pipeline import chain  # Ray and MLflow take seconds that a wrong flag need not wait

        with told("run", config.name):
            result = chain.run(config, force=force)
    if as_json:
        print_json(_as_json(result))
        print_unlearned(result.version.uri, result.unlearned)
    else:
        print_result(result)


def _as_json(result: "ChainResult") -> dict[str, Any]:
    """What `print_result` prints, by the keys that `dsnet evaluate` has for a row."""
    return {
        "version": version_as_json(result.version),
        "images": result.images,
        "rows": [row.to_dict() for row in result.rows],
        "versions": [version_as_json(version) for version in result.versions],
        "not_learned": result.unlearned,
    }


def print_result(result: "ChainResult") -> None:
    """What a chain reached, what it registered, and where to look further."""
    headline = result.version.headline
    rows = [
        (
            row.name,
            headline.text(row.value),
            headline.text(row.stderr),
            f"{row.madds:,.0f}",
            f"{row.share:.1%}",
        )
        for row in result.rows
    ]
    columns = ("network", headline.title, "standard error", "multiply-adds", "of the widest")
    print_table(columns, rows, title=f"{result.version.uri} on {result.images:,} test images")
    print_versions(result.versions)
    dsnet, name = program("dsnet"), result.version.name
    click.echo(
        "Look further:\n"
        f"  {dsnet} models {name}\n"
        f"  {dsnet} predict models:/{name} IMAGE...\n"
        f"  {_look_at_runs()}"
    )
    print_unlearned(result.version.uri, result.unlearned)


def _look_at_runs() -> str:
    """How to open MLflow's pages."""
    from pipeline.store import tracking

    store = tracking.uri()
    if store.startswith("http"):
        return f"open {store}"
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(store)}"
