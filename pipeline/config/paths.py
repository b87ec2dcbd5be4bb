"""Where files go: the home folder and what the configuration leaves to it."""

import os
from pathlib import Path

from dsnet.errors import InputError
from dsnet.errors.text import escaped
from pipeline.config.schema import Config
from pipeline.config.uri import Uri, is_uri, parse_uri


def home() -> Path:
    """$DSNET_HOME or ~/.dsnet, absolute; not created. Raises InputError as `check_in_uri` does."""
    folder = Path(os.environ.get("DSNET_HOME") or "~/.dsnet").expanduser().absolute()
    check_in_uri("DSNET_HOME", str(folder))
    return folder


def check_in_uri(where: str, path: str) -> None:
    """Raise InputError for a path that the URI of an SQLite store cannot hold.

    SQLAlchemy and MLflow read what follows a ? as options, and %20 as a space: they would write
    beside the folder, or try for minutes to open a file in one that is not there.
    """
    if "?" in path or "%" in path:
        raise InputError(
            f"{where}: expected a path without ? and %, which a store's URI cannot hold, found "
            f"{escaped(path)}; choose another folder"
        )


def data_dir(config: Config) -> Path | Uri:
    """Folder of the .beton files, absolute, or where it lies in a store."""
    if config.data.dir is not None and is_uri(config.data.dir):
        return parse_uri(config.data.dir)
    return _under(config.data.dir, "data")


def storage_dir(config: Config) -> Path:
    """Folder of Ray Train's results and checkpoints, absolute."""
    return _under(config.cluster.storage, "train")


def stage_dir(config: Config, stage: str, fingerprint: str) -> Path:
    """Folder of a stage's checkpoints."""
    return storage_dir(config) / f"{config.name}-{stage}-{fingerprint[:12]}"


def table_dir(config: Config, supernet: str, fingerprint: str) -> Path:
    """Folder of the routing tables of the supernet of that registered name."""
    return storage_dir(config) / "tables" / f"{supernet}-{fingerprint[:12]}"


def version_dir(config: Config, name: str, version: int) -> Path:
    """Folder of a registered version's model directory, where every worker reads it."""
    return storage_dir(config) / "versions" / f"{name}-{version}"


def lock_file(config: Config, what: str, fingerprint: str) -> Path:
    """What a run holds while it makes `what`; its folder is created."""
    folder = storage_dir(config) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{what}-{fingerprint[:12]}.lock"


def _under(folder: str | None, default: str) -> Path:
    return home() / default if folder is None else Path(folder).expanduser().absolute()
