"""What travels with a job, as Ray's runtime environment: code, configuration, variables, packages.

Uploaded are the packages dsnet, pipeline and jobs as they are here, and the configuration with its
flags applied: no data. The nodes have the locked dependencies, or install them (`pip`). Paths in
the configuration are those of the cluster.
"""

import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.io.files import sha256
from pipeline.cluster import events
from pipeline.config import Config

logger = logging.getLogger(__name__)

PACKAGES = ("dsnet", "pipeline", "jobs")
CONFIG = "submitted.yaml"
LARGEST_FILE = 10 * 2**20  # bytes: sources are smaller, and an upload goes through the head node
# Variables that the job gets. None is secret: everyone who reaches the dashboard can read them.
# Tokens and passwords belong into the environment of the cluster's nodes.
PASSED_ON = ("DSNET_HOME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
INSTALL_SECONDS = 3600  # for 7 GB on each node, through whatever network it has
ROOT = Path(__file__).resolve().parent.parent


def runtime_env(folder: Path, config: Config | None = None, *, pip: bool = False) -> dict[str, Any]:
    """Ray's `runtime_env` of a job; what is uploaded is copied into `folder`, which is empty.

    With `pip`, Ray makes on each node, when the first process of the job starts there, an
    environment of what requirements.lock pins. Raises InputError for a password in the tracking
    URI, and for a lock that is asked for and not there.
    """
    package(folder, config)
    env: dict[str, Any] = {
        "working_dir": str(folder),
        # So that `dsnet jobs status` can be told how far it is, by its log.
        "env_vars": {**environment(), events.VARIABLE: "1"},
    }
    if pip:
        env["pip"] = {
            "packages": [f"-r ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{_add_lock(folder)}"],
            "pip_install_options": ["--require-hashes", "--disable-pip-version-check"],
        }
        env["config"] = {"setup_timeout_seconds": INSTALL_SECONDS}
    return env


def package(folder: Path, config: Config | None) -> None:
    """Copy what a job needs into `folder`: the three packages and the resolved configuration."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=_left_out)
    if config is not None:
        (folder / CONFIG).write_text(config.yaml(), encoding="utf-8")


def _add_lock(folder: Path) -> str:
    """Copy requirements.lock into `folder`; its name there.

    As a file, because its lines would be more than an environment variable holds, through which
    Ray passes the rest on. Named by its digest, because Ray takes environments whose `packages`
    are the same text for one.
    """
    lock = ROOT / "requirements.lock"
    if not lock.is_file():
        raise InputError(
            f"--pip: expected {lock}, which pins what is installed on the nodes; submit from a "
            "checkout of the project"
        )
    name = f"requirements-{sha256(lock)[:16]}.lock"
    shutil.copyfile(lock, folder / name)
    return name


def _left_out(folder: str, names: list[str]) -> set[str]:
    left_out = {name for name in names if name == "__pycache__" or name.startswith(".")}
    for name in set(names) - left_out:
        path = Path(folder, name)
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            logger.warning("not uploaded, as larger than 10 MiB: %s", path)
            left_out.add(name)
    return left_out


def entrypoint(words: Sequence[str], *, pip: bool = False) -> str:
    """The shell command of the job, `dsnet WORDS`.

    Where the environment of this process exists on the cluster too (one machine, a shared disk,
    one image) it is the one that runs; elsewhere the `python` on the PATH of the cluster's node,
    which with `pip` is that of the environment made there.
    """
    command = f"exec python -m jobs.cli {shlex.join(words)}"
    folder = shlex.quote(str(Path(sys.executable).parent))
    return command if pip else f'PATH={folder}:"$PATH" {command}'


def environment() -> dict[str, str]:
    """The variables that the job gets. Raises InputError for a password in the tracking URI."""
    passed = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    if "MLFLOW_TRACKING_URI" in passed:
        from pipeline.store import tracking  # imports MLflow

        passed["MLFLOW_TRACKING_URI"] = tracking.uri()
    return passed
