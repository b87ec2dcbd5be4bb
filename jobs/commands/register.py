"""dsnet register: a model directory into the registry, without training."""

import shlex
from pathlib import Path

import click

from jobs.commands.models import print_versions, version_as_json
from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import json_flag, print_json, program, working
from pipeline.cluster.events import told


@click.command("register", cls=ConfigCommand)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@config_flags
@click.option(
    "--as-supernet",
    is_flag=True,
    help="Let it take the place of the supernet that the configuration would train.",
)
@json_flag
def command(
    directory: Path, config_file: str, as_supernet: bool, as_json: bool, **flags: str | None
) -> None:
    """Register the model directory DIR, which was made elsewhere, as a version.

    DIR is what dsnet import-official, dsnet pull or dsnet.save wrote. It must match the
    configuration: the layers of model.arch, the classes of the data, the task, the resolution. Then
    it is measured on the held-out images and registered; tags and card say that it was given and
    not trained here (given: the digest of its files). What is registered already is found again.

    With trained gates it becomes a version of the configuration's name, measured on the test
    images too and promoted by the rule; without, one of NAME-supernet. --as-supernet: it takes the
    place of the supernet stage, its slimming heads set aside (a network whose gates are tuned for
    budgets is refused); dsnet run and dsnet sweep with the same configuration go on from it:
    calibrate, table, gate. How it prepares images stays its own. dsnet run --force supernet trains
    one after all.

    \b
    Examples:
      dsnet import-official model_best.pth.tar ./official
      dsnet register ./official --config jobs/configs/imagenet_mbnet.yaml --as-supernet
      dsnet run --config jobs/configs/imagenet_mbnet.yaml
      dsnet sweep --config jobs/configs/imagenet_mbnet.yaml --targets 0.3,0.5,200M
    """
    config = configuration(config_file, flags)
    with working():
        from pipeline.runner.register_external import register  # Ray and MLflow take seconds

        with told("register", config.name):
            version = register(config, directory, as_supernet=as_supernet)
    if as_json:
        print_json(version_as_json(version))
        return
    print_versions([version])
    dsnet = program("dsnet")
    if as_supernet:
        click.echo(
            "Go on from it:\n"
            f"  {dsnet} run --config {shlex.quote(str(config_file))}\n"
            f"  {dsnet} sweep --config {shlex.quote(str(config_file))} --targets 0.3,0.5,0.8"
        )
    elif version.stage == "supernet":
        click.echo(
            "Train gates for it:\n"
            f"  {dsnet} run --config {shlex.quote(str(config_file))} --gate.supernet {version.uri}"
        )
