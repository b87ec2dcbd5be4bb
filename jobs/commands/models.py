"""dsnet models: what is registered, and what differs between two versions."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from jobs.output import json_flag, print_json, print_table, working

if TYPE_CHECKING:
    from pipeline.store.version import Version

Pair = tuple[str | None, str | None]
_DIGEST, _DIGITS = re.compile(r"[0-9a-f]{32,}"), 12  # how many of a digest's are shown


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
@json_flag
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
    """List the registered models, the versions of the model NAME, or what differs between two: the
    fields of their configurations, then their figures.

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
            configs = [_configuration(version) for version in (a, b)]
        _print_difference(a, b, configs, as_json)
        return
    if len(names) > 1:
        raise click.UsageError("expected one NAME, or diff A B", context)
    with working():
        registered = catalog.versions(*names)
    versions = select(registered, stage=stage, least=least, most=most, sort=sort)
    if as_json:
        print_json([version_as_json(version) for version in versions])
    elif registered and not versions:
        click.echo(f"none of {len(registered):,} versions matches")
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


def _configuration(version: "Version") -> dict[str, str]:
    """Of the run that made it, by dotted name; empty where it is not known."""
    if not version.run_id:
        return {}
    from pipeline.store import tracking

    tracking.configure(make=False)
    return tracking.parameters_of(version.run_id)


def _print_difference(
    a: "Version", b: "Version", configs: Sequence[dict[str, str]], as_json: bool
) -> None:
    """What differs between two versions: the configuration by field, figures, other tags."""
    config = _differing(*configs) if all(configs) else {}
    names = sorted(a.metrics.keys() | b.metrics.keys())
    metrics = {name: (a.metrics.get(name), b.metrics.get(name)) for name in names}
    tags = _differing(a.tags, b.tags)
    tags = {name: pair for name, pair in tags.items() if name not in {*names, "metrics"}}
    if as_json:
        print_json({"a": a.uri, "b": b.uri, "config": config, "metrics": metrics, "tags": tags})
        return
    if config:
        shown = [(name, *map(_text, pair)) for name, pair in config.items()]
        print_table(("configuration", a.uri, b.uri), shown)
    for version, known in zip((a, b), configs, strict=True):
        if not known:
            click.echo(f"the configuration of {version.uri} is not known: its MLflow run is gone")
    if all(configs) and not config:
        click.echo("the configurations are equal")
    rows = [(name, *map(_number, pair), _change(*pair)) for name, pair in metrics.items()]
    print_table(("metric", a.uri, b.uri, "change"), rows)
    told = {name: pair for name, pair in tags.items() if not any(map(_is_json, pair))}
    if told:
        shown = [(name, *map(_text, pair)) for name, pair in told.items()]
        print_table(("tag", a.uri, b.uri), shown)


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, Pair]:
    """Every name whose values differ, with both; None where one has none."""
    pairs = {name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _text(value: str | None) -> str:
    """For people: of a digest its beginning."""
    if value is None:
        return ""
    return f"{value[:_DIGITS]}…" if _DIGEST.fullmatch(value) else value


def _is_json(value: str | None) -> bool:
    """Whether it is counts that figures are made of, for programs."""
    return value is not None and value.startswith(("{", "["))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _change(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+,.6g}"
