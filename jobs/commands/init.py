"""dsnet init: a configuration for pictures of one's own."""

from dataclasses import asdict

import click

from dsnet.errors.text import escaped
from jobs.output import print_json, working


@click.command("init")
@click.argument("source", metavar="FOLDER")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(source: str, as_json: bool) -> None:
    """Print a configuration for the pictures in FOLDER, to start from.

    FOLDER has a folder of pictures for each class, or such folders in train/ and test/; what else
    data.source may be will do too (dsnet run --help). Where there is no test/, val/ is tested on,
    or else a fifth of each class is held out for it.

    It looks at the number of pictures, their classes, and the sizes and colours of 200 of them, and
    chooses recipe, resolution, architecture, epochs and batches by that; each stands under the
    reason for it. What will hurt, such as classes of a few pictures, is said on stderr. The
    configuration runs as it is, and is yours to change.

    \b
    Examples:
      dsnet init photos/ > photos.yaml
      dsnet run --config photos.yaml
      dsnet run --config photos.yaml --supernet.epochs 60 --cluster.gpus_per_worker 1
    """
    with working():
        from pipeline.data.suggest.suggestion import suggest

        suggestion = suggest(source)
    for warning in suggestion.warnings:
        click.echo(f"warning: {escaped(warning)}", err=True)
    if as_json:
        print_json(
            {
                "config": suggestion.values(),
                "choices": [asdict(choice) for choice in suggestion.choices],
                "warnings": suggestion.warnings,
            }
        )
    else:
        click.echo(suggestion.yaml(), nl=False)
