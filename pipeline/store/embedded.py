"""The embedded store: one SQLite file and a folder of artifacts next to it."""

import os
import sqlite3
from functools import cache
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient

from dsnet.errors import InputError
from pipeline.store.address import SQLITE
from pipeline.store.address import database as database
from pipeline.store.notes import EXPERIMENT_TAGS

_MEND = (
    "put back a copy of it, or move it away for a new store (what was registered is then to be made"
    " again)"
)


def artifacts_beside(file: Path) -> str:
    """Where the artifacts of an embedded store lie."""
    return str(file.absolute().with_name("mlartifacts"))


def ready(file: Path, experiment: str) -> None:
    """Make the store at `file` if it is not there; raise InputError if it is damaged.

    Whole or not at all, once, whoever comes first: MLflow's migrations collide when two processes
    run them on one file, and leave a file that cannot be used when they are interrupted. So they
    run on a file of another name, under a lock. experiment: the name of its first.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                _make(file, experiment)
    _check(file, file.stat().st_ino)


def _make(file: Path, experiment: str) -> None:
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    address = f"{SQLITE}{temporary}"
    MlflowClient(tracking_uri=address, registry_uri=address).create_experiment(
        experiment, artifact_location=artifacts_beside(file), tags=EXPERIMENT_TAGS
    )
    os.replace(temporary, file)


@cache
def _check(file: Path, inode: int) -> None:
    """Raise InputError unless `file` is an MLflow store that can be opened; asked once a file.

    MLflow would write its tables into an empty file, or into another program's.
    """
    if file.stat().st_size == 0:
        raise InputError(f"{file}: expected an MLflow store, found an empty file; {_MEND}")
    try:
        with sqlite3.connect(file, timeout=30) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
        opened.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return  # somebody works with it
        raise InputError(f"{file}: expected an MLflow store, found: {error}") from None
    except sqlite3.DatabaseError as error:
        raise damaged(file, error) from None
    if "alembic_version" not in tables:
        found = ", ".join(sorted(tables)[:3]) or "no tables"
        raise InputError(
            f"{file}: expected an MLflow store, found an SQLite file with {found}; "
            "set DSNET_HOME to another folder, or move it away for a new store"
        )


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says, through whomever, that a file is not as it wrote it."""
    text = str(error)
    return "database disk image is malformed" in text or "file is not a database" in text


def damaged(file: Path, error: BaseException) -> InputError:
    """The error that says so of `file`."""
    reason = "cut or altered" if "malformed" in str(error) else "no SQLite file"
    return InputError(f"{file}: expected an MLflow store, found it damaged ({reason}); {_MEND}")
