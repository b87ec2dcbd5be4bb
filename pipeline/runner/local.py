"""A registered model in the storage, where every worker reads it."""

from pathlib import Path

from pipeline.config import Config, version_dir
from pipeline.store import registry
from pipeline.store.registry import Version


def local(config: Config, version: Version) -> Path:
    """The version's model directory, fetched from the registry where it is not there yet."""
    return registry.pull(version.uri, version_dir(config, version.name, version.version))
