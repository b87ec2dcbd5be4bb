"""Pictures into a beton in a file or in a store: there it is put whole, the manifest last."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from pipeline.config import Uri
from pipeline.data.ingest.ingest import ingest, made_from, written
from pipeline.data.manifest import Manifest, RemoteBeton, manifest_path
from pipeline.data.remote.beton import publish, published, staged
from pipeline.data.remote.cache import filling, hold
from pipeline.data.sources.base import Source

logger = logging.getLogger(__name__)

_MADE_FROM = ("max_resolution", "quality", "write_mode")


def ingest_to(source: Source, dest: Path | Uri, *, force: bool = False, **options: Any) -> Manifest:
    """`ingest` of a source; for a store it is made on this disk, put there, and kept as staged.

    One that is there and was made from the same is left, unless `force`. Options and errors: as
    `ingest`.
    """
    if isinstance(dest, Path):
        return ingest(source, dest, force=force, **options)
    chosen = {name: options[name] for name in _MADE_FROM if name in options}
    present = None if force else written_to(source, dest, **chosen)
    if present is not None:
        logger.info("%s already holds %s %s", dest, source.name, source.split)
        return staged(RemoteBeton(dest, present.digest))
    folder = hold(f"made-{hashlib.sha256(str(dest).encode()).hexdigest()[:40]}")
    with filling(folder, str(dest)):
        made = ingest(source, folder / dest.name, force=force, **options)
        publish(made, dest)
        # What was made here need not be brought here.
        kept = hold(f"beton-{made.digest[:40]}") / dest.name
        with filling(kept.parent, str(dest)):
            manifest_path(kept).unlink(missing_ok=True)
            os.replace(made.beton, kept)
            os.replace(manifest_path(made.beton), manifest_path(kept))
    return staged(RemoteBeton(dest, made.digest))


def written_to(source: Source, dest: Path | Uri, **options: Any) -> Manifest | None:
    """The manifest at `dest`, if `ingest_to` made it from that source by these options.

    options: of `made_from`. The beton itself is not looked into.
    """
    if isinstance(dest, Path):
        return written(source, dest, **options)
    there = published(dest)
    if there is None or there.fingerprint != made_from(source, **options):
        return None
    return there
