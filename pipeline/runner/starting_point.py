"""What a supernet starts from: resolved on the driver, put where every worker reads it."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dsnet
from dsnet import InputError
from dsnet.io.files import atomic_directory, sha256
from dsnet.io.weights import WEIGHTS
from dsnet.training import freeze, start_from
from pipeline.config import Config, storage_dir
from pipeline.data.dataset import Dataset
from pipeline.runner.job import Start, local
from pipeline.stages.supernet import new_model
from pipeline.store import registry

logger = logging.getLogger(__name__)


def starting_point(config: Config, dataset: Dataset) -> Start | None:
    """What the config names in `supernet.from`, if anything; what fits of it, told in one line.

    Raises InputError for what is not there, is damaged or has nothing in common with the network,
    and for parts to freeze that the network does not have.
    """
    named = config.supernet.from_
    if named is None:
        return None
    with _about(named):
        start = _resolved(config, named)
        source, model = dsnet.load(start.directory), new_model(config, dataset.metadata(config))
        report = start_from(model, source)
    try:
        freeze(model, config.supernet.freeze)
    except InputError as error:
        raise InputError(f"supernet.freeze: {error}") from error
    logger.info("the supernet starts from %s: %s", named, report)
    return start


def identified(named: str) -> str:
    """What a fingerprint has of a starting point; nothing of it is fetched or kept.

    Raises InputError for what is not there or is damaged.
    """
    with _about(named):
        if named.startswith("models:/"):
            return registry.resolve(named).tags["fingerprint"]
        return _identity(Path(named).expanduser())


@contextmanager
def _about(named: str) -> Iterator[None]:
    """Within, what goes wrong is about the starting point."""
    try:
        yield
    except InputError as error:
        raise InputError(f"supernet.from {named}: {error}") from error


def _resolved(config: Config, named: str) -> Start:
    if named.startswith("models:/"):
        version = registry.resolve(named)
        return Start(local(config, version), version.tags["fingerprint"], version)
    directory = Path(named).expanduser()
    identity = _identity(directory)
    # A copy: every node reads the storage, and a training that goes on tomorrow reads it again.
    kept = storage_dir(config) / "starts" / identity[:12]
    if not kept.is_dir():
        with atomic_directory(kept) as folder:
            shutil.copytree(directory, folder, dirs_exist_ok=True)
    return Start(kept, identity)


def _identity(directory: Path) -> str:
    """SHA-256 over all that a supernet takes from a model directory."""
    if not directory.is_dir():
        expected = "expected models:/NAME/3, models:/NAME@alias or a model directory"
        if not directory.exists():
            raise InputError(f"{expected}, found nothing there")
        raise InputError(
            f"{expected}, found a file; for an ordinary network's checkpoint see "
            "docs/fine_tuning.md (From an ordinary network), for one of the official code dsnet "
            "import-official"
        )
    model = dsnet.load(directory)
    read = {
        "weights": sha256(directory / WEIGHTS),
        "architecture": model.architecture.to_dict(),
        "classes": model.metadata.classes,
    }
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
