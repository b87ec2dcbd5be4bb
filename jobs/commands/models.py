"""dsnet models: what is registered."""

import click

from jobs.output import print_json, print_table, working


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
    from pipeline import registry, tracking

    with working():
        tracking.configure()
        versions = registry.versions(name)
    if as_json:
        keys = ("name", "version", "aliases", "stage", "tags", "metrics")
        print_json([{key: getattr(version, key) for key in keys} for version in versions])
        return
    rows = [
        (
            version.uri,
            ", ".join(version.aliases),
            version.stage,
            f"{version.metrics['top1']:.2%}" if "top1" in version.metrics else "",
            f"{version.metrics['average_madds']:,.0f}"
            if "average_madds" in version.metrics
            else "",
        )
        for version in versions
    ]
    print_table(("model", "aliases", "stage", "top-1", "average MAdds"), rows)
