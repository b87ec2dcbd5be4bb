"""dsnet run: the whole chain of a configuration."""

from typing import TYPE_CHECKING

import click

from jobs.commands.models import print_versions
from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import print_table, program, working

if TYPE_CHECKING:
    from pipeline.chain import ChainResult


@click.command("run", cls=ConfigCommand)
@config_flags
def command(config_file: str, **flags: str | None) -> None:
    """Run the whole chain: ingest, supernet, calibrate, gate, evaluate, register.

    Stages whose result is registered already are not run again, so a chain that was interrupted
    goes on where it stopped. Any field of the configuration can be changed by a flag.

    \b
    Examples:
      dsnet run --config jobs/configs/digits.yaml
      dsnet run --config jobs/configs/digits.yaml --gate.target 0.4 --supernet.epochs 20
    """
    config = configuration(config_file, flags)
    with working():
        from pipeline import chain  # Ray and MLflow take seconds that a wrong flag need not wait

        result = chain.run(config)
    print_result(result)


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


def _look_at_runs() -> str:
    """How to open MLflow's pages."""
    from pipeline.store import tracking

    store = tracking.uri()
    if store.startswith("http"):
        return f"open {store}"
    return f"{program('mlflow')} ui --backend-store-uri {store}"
