"""Test pictures that are training pictures too: what is measured on them was seen in training."""

import hashlib
import logging
import os
from dataclasses import replace

import numpy as np

from pipeline.data.beton_format import ALLOC_TABLE_TYPE
from pipeline.data.manifest import Manifest, write_manifest

logger = logging.getLogger(__name__)


def compared(train: Manifest, test: Manifest) -> Manifest:
    """`test`, with how many of its pictures are in `train`; a warning where some are.

    Equal are pictures that are stored as the same bytes, as those with equal pixels are. Both files
    are read for it once: the manifest keeps the count, where its folder can be written.
    """
    if test.compared_with != train.digest:
        count = int(np.isin(_digests(test), _digests(train)).sum())
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


def _digests(manifest: Manifest) -> np.ndarray:
    """64 bits of a digest over each stored picture and its form, uint64 (samples,)."""
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
