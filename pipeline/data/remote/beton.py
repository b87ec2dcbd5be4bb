"""A beton in a store: staged to this node's disk once, held to its digest, and put there whole."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from pipeline.cluster.progress import Progress
from pipeline.config import Uri
from pipeline.data.digest import SETTLED, check_digest
from pipeline.data.manifest import (
    MOST_BYTES,
    Beton,
    Manifest,
    RemoteBeton,
    manifest_path,
    parsed,
    read_manifest,
)
from pipeline.data.remote.cache import filling, hold, reserve

if TYPE_CHECKING:  # they bring Arrow and fsspec
    from pipeline.data.remote.store import Remote, Store

logger = logging.getLogger(__name__)

MEGABYTE = 10**6


def at_hand(beton: Beton) -> Path:
    """Where this node has it: a file is used in place, one in a store is staged first."""
    return staged(beton).beton if isinstance(beton, RemoteBeton) else Path(beton)


def published(uri: Uri) -> Manifest | None:
    """The manifest of the beton at `uri`; None where there is no whole one.

    Its `beton` is no file of this node. Raises InputError for a manifest that is none.
    """
    from pipeline.data.remote.store import open_store

    store = open_store(uri)
    file = store.look(f"{store.path}.json")
    if file is None:
        return None
    if file.size > MOST_BYTES:
        raise InputError(
            f"{uri}.json: expected a manifest of up to {MOST_BYTES:,} bytes, found {file.size:,}"
        )
    manifest = parsed(store.read(file, 0, file.size), Path(uri.name), f"{uri}.json")
    beton = store.look(store.path)
    if beton is None or beton.size != manifest.size:
        found = f"{beton.size:,}" if beton else "none"
        logger.warning("%s: expected %s bytes, found %s", uri, f"{manifest.size:,}", found)
        return None
    return replace(manifest, origin=RemoteBeton(uri, manifest.digest))


def staged(beton: RemoteBeton) -> Manifest:
    """The beton's manifest on this node's disk, the beton beside it with the digest that it says.

    Of several processes that ask at once, one copies. What is there stays until this process ends.
    Raises InputError where the store has another by now, or a damaged one, and OutageError where it
    does not answer or there is no room.
    """
    folder = hold(f"beton-{beton.digest[:40]}")
    path = folder / beton.uri.name
    with filling(folder, str(beton)):
        if not _is_whole(path, beton.digest):
            _stage(beton, path)
    return replace(read_manifest(path), origin=beton)


def publish(manifest: Manifest, uri: Uri) -> None:
    """Put a beton and then its manifest at `uri`: a beton without one is not whole."""
    from pipeline.data.remote.store import open_store

    store = open_store(uri)
    logger.info("writing %s (%.1f MB)", uri, manifest.size / MEGABYTE)
    store.delete(f"{store.path}.json")
    store.write(manifest.beton, store.path)
    store.write(manifest_path(manifest.beton), f"{store.path}.json")


def _is_whole(path: Path, digest: str) -> bool:
    """Whether a beton was staged here, and nothing has happened to it since."""
    if not manifest_path(path).exists():
        return False
    try:
        read_manifest(path)
        check_digest(path, digest)
    except InputError as error:
        logger.warning("staged again: %s", error)
        path.unlink(missing_ok=True)
        return False
    return True


def _stage(beton: RemoteBeton, path: Path) -> None:
    from pipeline.data.remote.store import open_store

    store = open_store(beton.uri)
    note, file = store.look(f"{store.path}.json"), store.look(store.path)
    if note is None or file is None:
        missing = "a manifest" if note is None else "a beton"
        raise InputError(f"{beton}: expected a beton and its manifest, found {missing} missing")
    content = store.read(note, 0, min(note.size, MOST_BYTES))
    described = parsed(content, path, f"{beton}.json")
    if (described.digest, described.size) != (beton.digest, file.size):
        raise InputError(
            f"{beton}: expected the beton that this run began with, found another in its place; "
            "run the same command again"
        )
    reserve(path.parent, file.size + len(content), str(beton))
    manifest_path(path).unlink(missing_ok=True)
    while True:
        resumed = _fetched(store, file, path)
        time.sleep(2 * SETTLED / 1e9)  # a file that has settled is remembered, and read once
        try:
            check_digest(path, beton.digest)
            break
        except InputError as error:
            path.unlink()
            if not resumed:
                raise InputError(f"{beton}: damaged in its store or on the way: {error}") from error
            logger.warning("staged anew: %s", error)
    with atomic_file(manifest_path(path)) as temporary:
        temporary.write_bytes(content)


def _fetched(store: "Store", file: "Remote", path: Path) -> bool:
    """Bring the beton; whether bytes of it were there already."""
    from pipeline.data.remote.copy import fetch

    done = 0
    total = max(1, file.size // MEGABYTE)
    with Progress(f"stage {path.name}", total=total, unit="MB") as progress:

        def told(count: int) -> None:
            nonlocal done
            done += count
            progress.update(min(total, done // MEGABYTE))

        return fetch(store, file, path, told)
