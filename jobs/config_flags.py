"""--config FILE and one flag for every field of the configuration, with the field's own help."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from jobs.output import print_json
from pipeline.config import Config, Field, fields, load_config

FIELDS = tuple(fields())


def config_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --config FILE and a dotted flag for each field."""
    return click.option(
        "--config", "config_file", required=True, metavar="FILE", help="The configuration, as YAML."
    )(field_flags(function))


def config_or_version_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, or --from-version in place of --config."""
    of_version = click.option(
        "--from-version",
        metavar="NAME/3",
        help="The configuration that made this version (or NAME@ALIAS), in place of --config.",
    )
    of_file = click.option(
        "--config", "config_file", metavar="FILE", help="The configuration, as YAML."
    )
    return of_file(of_version(field_flags(function)))


def field_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a dotted flag for each field."""
    for field in reversed(FIELDS):
        click.option(
            f"--{field.name}",
            _parameter(field),
            metavar="VALUE",
            help=f"{field.description} ({field.type}; default {field.default})",
        )(function)
    return function


print_config_flag = click.option(
    "--print-config",
    "show",
    is_flag=True,
    help="Print the configuration as it would be run, every field of it as YAML (or with --json, "
    "as JSON), and run nothing.",
)


def print_config(config: Config, as_json: bool) -> None:
    """Every field on stdout, defaults included, as a configuration file has them or as JSON."""
    if as_json:
        print_json(config.as_dict())
    else:
        click.echo(config.yaml(), nl=False)


def given(flags: Mapping[str, str | None]) -> dict[str, str]:
    """The fields that flags change, by their dotted names."""
    values = {field.name: flags[_parameter(field)] for field in FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def configuration(config_file: str, flags: Mapping[str, str | None]) -> Config:
    """The configuration in the file as the flags change it. Raises InputError as load_config."""
    return load_config(config_file, given(flags))


def configuration_of(
    config_file: str | None, version: str | None, flags: Mapping[str, str | None]
) -> Config:
    """The configuration in the file, or that which made a version, as the flags change it.

    Raises InputError as load_config, and where the version or its configuration is not there.
    """
    if (config_file is None) == (version is None):
        raise click.UsageError("expected --config FILE or --from-version NAME/3, one of them")
    if config_file is not None:
        return configuration(config_file, flags)
    from pipeline.store import registry, tracking

    tracking.configure(make=False)
    found = registry.resolve(f"models:/{str(version).removeprefix('models:/')}")
    with tempfile.TemporaryDirectory() as folder:
        return load_config(tracking.configuration_of(found, Path(folder)), given(flags))


class ConfigCommand(click.Command):
    """A command whose help lists the fields by the section that they belong to."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
        section_of = {_parameter(field): field.name.rpartition(".")[0] for field in FIELDS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            section = section_of.get(str(parameter.name))
            title = "Options" if section is None else f"Fields of {section or 'the whole'}"
            sections[title].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=40)


def _parameter(field: Field) -> str:
    return field.name.replace(".", "__")
