"""Pictures into a beton in a store: made on this disk, put there whole, the manifest last."""

import hashlib
import logging
import os
from typing import Any

from pipeline.config import Uri
from pipeline.data.ingest import ingest, made_from
from pipeline.data.manifest import Manifest, manifest_path
from pipeline.data.remote.beton import RemoteBeton, publish, published, staged
from pipeline.data.remote.cache import filling, hold
from pipeline.data.sources.base import Source

logger = logging.getLogger(__name__)


def ingest_to(source: Source, uri: Uri, **options: Any) -> Manifest:
    """`ingest` of a source to a beton in a store: made on this disk, put there, the manifest last.

    One that is there and was made from the same is left. Options and errors: as `ingest`.
    """
    present = published(uri)
    wanted = ("max_resolution", "quality", "write_mode")
    chosen = {name: options[name] for name in wanted if name in options}
    if present is not None and present.fingerprint == made_from(source, **chosen):
        logger.info("%s already holds %s %s", uri, source.name, source.split)
        return staged(RemoteBeton(uri, present.digest))
    folder = hold(f"made-{hashlib.sha256(str(uri).encode()).hexdigest()[:40]}")
    with filling(folder, str(uri)):
        made = ingest(source, folder / uri.name, **options)
        publish(made, uri)
        # What was made here need not be brought here.
        kept = hold(f"beton-{made.digest[:40]}") / uri.name
        with filling(kept.parent, str(uri)):
            manifest_path(kept).unlink(missing_ok=True)
            os.replace(made.beton, kept)
            os.replace(manifest_path(made.beton), manifest_path(kept))
    return staged(RemoteBeton(uri, made.digest))
