"""dsnet models: what is registered, and what differs between two versions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobs.output import print_json, print_table, working

if TYPE_CHECKING:
    from pipeline.store.version import Version


@click.command("models")
@click.argument("names", metavar="[NAME | diff A B]", nargs=-1)
@click.option("--stage", metavar="STAGE", help="Those of one stage alone, such as gate.")
@click.option(
    "--min", "least", multiple=True, metavar="METRIC=X", help="Those with at least X: top1=0.9."
)
@click.option(
    "--max",
    "most",
    multiple=True,
    metavar="METRIC=X",
    help="Those with at most X: average_madds=2e8.",
)
@click.option(
    "--sort", metavar="METRIC", help="The smallest first; -METRIC: the largest first, as in -top1."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def command(
    context: click.Context,
    names: tuple[str, ...],
    stage: str | None,
    least: tuple[str, ...],
    most: tuple[str, ...],
    sort: str | None,
    as_json: bool,
) -> None:
    """List the registered models, the versions of the model NAME, or what differs between two.

    The registry is the MLflow server in MLFLOW_TRACKING_URI, or a file in DSNET_HOME. In JSON, the
    tags of a version lead to where it comes from: parent (the supernet), dataset_digest,
    code_version, and run_id, whose parent in MLflow holds the configuration.
    A and B are models:/NAME/3, models:/NAME@ALIAS, or the same without models:/.

    \b
    Examples:
      dsnet models
      dsnet models digits --json
      dsnet models --stage gate --min top1=0.9 --sort average_madds
      dsnet models diff digits/1 digits@champion
    """
    from pipeline.store import catalog
    from pipeline.store.listing import select

    if len(names) == 3 and names[0] == "diff":
        if stage or least or most or sort:
            raise click.UsageError("diff A B takes no --stage, --min, --max or --sort", context)
        with working():
            a, b = (catalog.find(_uri(name)) for name in names[1:])
        _print_difference(a, b, as_json)
        return
    if len(names) > 1:
        raise click.UsageError("expected one NAME, or diff A B", context)
    with working():
        registered = catalog.versions(*names)
    versions = select(registered, stage=stage, least=least, most=most, sort=sort)
    if as_json:
        print_json([version_as_json(version) for version in versions])
    elif registered and not versions:
        click.echo(f"none of {len(registered):,} versions is such")
    else:
        print_versions(versions)


def _uri(name: str) -> str:
    return name if name.startswith("models:/") else f"models:/{name}"


def version_as_json(version: "Version") -> dict[str, Any]:
    """A version by the keys that every command has for one."""
    keys = ("name", "version", "aliases", "stage", "tags", "metrics")
    values = {key: getattr(version, key) for key in keys}
    return {**values, "tags": {**version.tags, "run_id": version.run_id}}


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


def _print_difference(a: "Version", b: "Version", as_json: bool) -> None:
    """What two versions measure, side by side, and every other tag that differs."""
    names = sorted(a.metrics.keys() | b.metrics.keys())
    metrics = {name: (a.metrics.get(name), b.metrics.get(name)) for name in names}
    others = sorted((a.tags.keys() | b.tags.keys()) - set(names) - {"metrics"})
    tags = {name: (a.tags.get(name), b.tags.get(name)) for name in others}
    tags = {name: pair for name, pair in tags.items() if pair[0] != pair[1]}
    if as_json:
        print_json({"a": a.uri, "b": b.uri, "metrics": metrics, "tags": tags})
        return
    rows = [(name, *map(_number, pair), _change(*pair)) for name, pair in metrics.items()]
    print_table(("metric", a.uri, b.uri, "change"), rows)
    if tags:
        shown = [
            (name, *("" if each is None else each for each in pair)) for name, pair in tags.items()
        ]
        print_table(("tag", a.uri, b.uri), shown)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+,.6g}"
