"""Modules that the configuration names, which register a user's tasks and families."""

import importlib

from dsnet.errors import InputError
from pipeline.config.schema import Config


def import_plugins(config: Config) -> None:
    """Import the config's plugins, in their order.

    Raises InputError, with its name and what went wrong, for one that cannot be imported.
    """
    for name in config.plugins:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"plugins: expected Python modules that can be imported here, found {name} "
                f"({reason}); see python -c 'import {name}'"
            ) from error
