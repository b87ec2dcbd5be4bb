"""dsnet schema: the configuration's fields, for editors."""

import click

from jobs.output import print_json


@click.command("schema")
def command() -> None:
    """Print the JSON schema of configurations: every field with its text, type, bounds and default.

    Editors complete and check a YAML file by it. Those with the YAML language server (VS Code,
    Neovim, Emacs and others) take it from the first line of the file:
    # yaml-language-server: $schema=dsnet.schema.json

    \b
    Examples:
      dsnet schema > dsnet.schema.json
    """
    from pipeline.config.json_schema import json_schema

    print_json(json_schema())
