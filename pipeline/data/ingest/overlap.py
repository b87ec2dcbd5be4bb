"""Test pictures that are training pictures too: what is measured on them was seen in training."""

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsnet.errors import OutageError
from dsnet.io.files import atomic_file
from pipeline.data.beton_format import ALLOC_TABLE_TYPE
from pipeline.data.digest import records_folder
from pipeline.data.manifest import Manifest, write_manifest

logger = logging.getLogger(__name__)


def compared(train: Manifest, test: Manifest) -> Manifest:
    """`test`, with how many of its pictures are in `train`; a warning where some are.

    Equal are pictures that are stored as the same bytes, as those with equal pixels are. Both files
    are read for it once: the manifest keeps the count, where its folder can be written.
    """
    if test.compared_with != train.digest:
        count = int(np.isin(digests(test), digests(train)).sum())
        test = replace(test, compared_with=train.digest, in_common=count)
        if os.access(test.beton.parent, os.W_OK):
            write_manifest(test)
    if test.in_common:
        logger.warning(
            "%s: %d of %d pictures of %s are in %s too, pixel for pixel; figures counted on them "
            "say nothing of new pictures",
            test.source,
            test.in_common,
            test.samples,
            test.split,
            train.split,
        )
    return test


def digests(manifest: Manifest) -> np.ndarray:
    """64 bits of a digest over each stored picture and its form, uint64 (samples,).

    The beton is read for it once for each node, which keeps them by the beton's own digest.
    """
    found = kept_digests(manifest.digest)
    if found is None or len(found) != manifest.samples:
        found = _digests(manifest)
        with suppress(OSError, OutageError), atomic_file(_kept(manifest.digest)) as temporary:
            found.tofile(temporary)
    return found


def kept_digests(digest: str) -> np.ndarray | None:
    """What `digests` kept of the beton with that SHA-256; None where it was not asked here."""
    try:
        return np.fromfile(_kept(digest), np.uint64)
    except OSError:
        return None


def _kept(digest: str) -> Path:
    name = hashlib.sha256(digest.encode()).hexdigest()  # a tag's text is no name of a file
    return records_folder() / f"pictures-{name}.u64"


def _digests(manifest: Manifest) -> np.ndarray:
    pictures = manifest.records()["f0"]
    table = manifest.size - manifest.samples * ALLOC_TABLE_TYPE.itemsize
    places = np.fromfile(manifest.beton, ALLOC_TABLE_TYPE, manifest.samples, offset=table)
    content = np.memmap(manifest.beton, np.uint8, "r")
    forms = np.stack([pictures[name] for name in ("mode", "height", "width")], axis=1)
    digests = np.empty(manifest.samples, np.uint64)
    for number, (place, form) in enumerate(zip(places, forms, strict=True)):
        start = int(place["ptr"])
        known = hashlib.blake2b(form.tobytes(), digest_size=8)
        known.update(content[start : start + int(place["size"])].data)
        digests[number] = int.from_bytes(known.digest(), "little")
    return digests
