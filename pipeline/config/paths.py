"""Where files go: the home folder and what the configuration leaves to it."""

import os
from pathlib import Path

from pipeline.config.schema import Config


def home() -> Path:
    """$DSNET_HOME or ~/.dsnet, absolute; not created."""
    return Path(os.environ.get("DSNET_HOME") or "~/.dsnet").expanduser().absolute()


def data_dir(config: Config) -> Path:
    """Folder of the .beton files, absolute."""
    return _under(config.data.dir, "data")


def storage_dir(config: Config) -> Path:
    """Folder of Ray Train's results and checkpoints, absolute."""
    return _under(config.cluster.storage, "train")


def _under(folder: str | None, default: str) -> Path:
    return home() / default if folder is None else Path(folder).expanduser().absolute()
