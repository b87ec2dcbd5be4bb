"""dsnet pull: a registered model into a folder."""

from pathlib import Path

import click

from jobs.output import working


@click.command("pull")
@click.argument("model_uri", metavar="MODEL_URI")
@click.argument("directory", metavar="DIR")
def command(model_uri: str, directory: str) -> None:
    """Copy the registered model MODEL_URI into the folder DIR.

    DIR then holds weights.safetensors, model.json and their SHA256SUMS, and nothing executable;
    `dsnet.load(DIR)` reads it where only torch, numpy and safetensors are installed. MODEL_URI is
    models:/NAME/VERSION, models:/NAME@ALIAS or models:/NAME, which is the champion.

    \b
    Examples:
      dsnet pull models:/digits@champion ./digits
      dsnet pull models:/digits/3 ./digits-3
    """
    from pipeline import registry, tracking

    with working():
        tracking.configure()
        path = registry.pull(model_uri, Path(directory))
    click.echo(path)
