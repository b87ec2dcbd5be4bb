"""dsnet init: a configuration for a user's pictures."""

from dataclasses import asdict

import click

from dsnet.errors.text import escaped
from jobs.output import json_flag, print_json, working


@click.command("init")
@click.argument("source", metavar="FOLDER")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="How long dsnet run may take on this machine: the epochs are cut to what fits. By "
    "default 10, and as long as it takes for photographs that want GPUs.",
)
@click.option(
    "--try",
    "trial",
    is_flag=True,
    help="Train three ways to augment the pictures for a third of a minute each, and write the "
    "best one.",
)
@json_flag
def command(source: str, minutes: float | None, trial: bool, as_json: bool) -> None:
    """Print a configuration for the pictures in FOLDER, to start from.

    FOLDER has a folder of pictures for each class, or such folders in train/ and test/; what else
    data.source may be will do too (dsnet run --help). Where there is no test/, val/ is tested on,
    or else a fifth of each class is held out for it.

    It looks at the number of pictures, their classes, and the sizes and colours of 200 of them,
    and chooses recipe, resolution, architecture, epochs and batches by that; each stands under the
    reason for it. It trains for some seconds on random pixels to tell how long dsnet run will
    take. What will hurt, such as classes of a few pictures, is said on stderr. The configuration
    runs as it is, and is yours to change.

    \b
    Examples:
      dsnet init photos/ > photos.yaml
      dsnet init photos/ --minutes 30 --try > photos.yaml
      dsnet run --config photos.yaml
      dsnet run --config photos.yaml --supernet.epochs 60 --cluster.gpus_per_worker 1
    """
    with working():
        from pipeline.data.suggest.suggestion import suggest

        suggestion = suggest(source)
        for warning in suggestion.warnings:
            click.echo(f"warning: {escaped(warning)}", err=True)
        click.echo("measuring how fast this machine trains …", err=True)
        from pipeline.runner.first_config import FirstConfig  # PyTorch and Ray take seconds

        first = FirstConfig(suggestion)
        if trial:
            first.suggestion = first.best()
        suggestion = first.within(minutes)
    if as_json:
        print_json(
            {
                "config": suggestion.values(),
                "choices": [asdict(choice) for choice in suggestion.choices],
                "warnings": suggestion.warnings,
                "notes": suggestion.notes,
            }
        )
    else:
        click.echo(suggestion.yaml(), nl=False)
