"""Pictures that a version was trained on: kept with its run, and looked for among test pictures.

A version whose data are not its parent's has a record of its training pictures, 64 bits of a digest
of each, as an artifact of its run; the tag `trained_on` names the beton. Versions from before there
were such records, and those that were given, tell nothing.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from pipeline.data.dataset import Dataset
from pipeline.data.ingest.overlap import digests, kept_digests
from pipeline.data.manifest import Manifest
from pipeline.store import registry
from pipeline.store.registry import Version
from pipeline.store.tracking import Run, artifact_of

logger = logging.getLogger(__name__)

TRAINED_ON = "trained_on"
_RECORD = "trained_on.u64"


def record(train: Manifest, run: Run) -> dict[str, str]:
    """Keep with a run which pictures it trained on; the tag of the version that comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _RECORD)
        digests(train).tofile(path)
        run.artifact(path)
    return {TRAINED_ON: train.digest}


def warn_of_seen(version: Version | None, dataset: Dataset) -> None:
    """Warn where a chain tests on what the version that it starts from was trained on.

    Of the chain's own training pictures among its test pictures `compared` has warned.
    """
    if version is not None and version.tags.get("dataset_digest") != dataset.digest:
        warn_of_seen_in(version, dataset.test)


def warn_of_seen_in(version: Version, test: Manifest) -> None:
    """Warn in one line where the version, or one before it, was trained on pictures of `test`.

    Equal are pictures that are stored as the same bytes: of one size limit and encoding.
    """
    known = _trained_on(version)
    count = int(np.isin(digests(test), known).sum()) if len(known) else 0
    if count:
        logger.warning(
            "%s, or what it comes from, was trained on %d of the %d test pictures (%s, %s), pixel "
            "for pixel: figures counted on them say nothing of new pictures; test on others "
            "(data.source, data.test_split)",
            version.uri,
            count,
            test.samples,
            test.source,
            test.split,
        )


def _trained_on(version: Version) -> np.ndarray:
    """Digests of the training pictures of a version and those before it, uint64 (n,)."""
    found, passed = [np.empty(0, np.uint64)], set()
    while version.uri not in passed:
        passed.add(version.uri)
        if beton := version.tags.get(TRAINED_ON):
            found.append(_recorded(version, beton))
        try:
            version = registry.resolve(version.tags.get("parent", ""))
        except InputError:  # none, or it is gone
            break
    return np.concatenate(found)


def _recorded(version: Version, beton: str) -> np.ndarray:
    """Of one version: as this machine has them of its beton, else as its run has them."""
    kept = kept_digests(beton)
    if kept is not None:
        return kept
    with tempfile.TemporaryDirectory() as folder:
        path = artifact_of(version.run_id, _RECORD, Path(folder))
        return np.empty(0, np.uint64) if path is None else np.fromfile(path, np.uint64)
