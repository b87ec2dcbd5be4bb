"""dsnet models: what is registered."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from jobs.output import print_json, print_table, working

if TYPE_CHECKING:
    from pipeline.store.registry import Version


@click.command("models")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(name: str | None, as_json: bool) -> None:
    """List the registered models, or the versions of the model NAME.

    The registry is the MLflow server in MLFLOW_TRACKING_URI, or a file in DSNET_HOME.

    \b
    Examples:
      dsnet models
      dsnet models digits --json
    """
    from pipeline.store import registry, tracking

    with working():
        tracking.configure()
        versions = registry.versions(name)
    if as_json:
        keys = ("name", "version", "aliases", "stage", "tags", "metrics")
        print_json([{key: getattr(version, key) for key in keys} for version in versions])
        return
    print_versions(versions)


def print_versions(versions: "Sequence[Version]") -> None:
    """Registered versions as a table, each with what networks of its task are compared by."""
    if not versions:
        click.echo("nothing is registered yet; dsnet run registers what it trains")
        return
    rows = [
        (
            version.uri,
            ", ".join(version.aliases),
            version.stage,
            version.headline.text(version.value),
            f"{version.metrics['average_madds']:,.0f}",
        )
        for version in versions
    ]
    titles = {version.headline.title for version in versions}
    title = titles.pop() if len(titles) == 1 else "headline"
    print_table(("model", "aliases", "stage", title, "average MAdds"), rows)
