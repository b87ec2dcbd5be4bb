"""Pictures into a beton: every one decoded and checked, in order, the file whole or not at all."""

import hashlib
import json
import logging
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.io.files import atomic_file, sha256
from pipeline.data.beton_format import LONGEST_SIDE
from pipeline.data.ingest.bad_pictures import MAX_BAD, BadPictures
from pipeline.data.manifest import (
    FORMAT,
    Manifest,
    check_fits,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipeline.data.sources.base import Source
from pipeline.data.sources.walk import listed

logger = logging.getLogger(__name__)

LIBRARIES = ("ffcv", "opencv-python", "pillow")
WRITE_MODES = ("raw", "jpg", "smart")
QUALITY = 90


def ingest(
    source: Source,
    dest: str | Path,
    *,
    max_resolution: int | None = None,
    quality: int = QUALITY,
    write_mode: str | None = None,
    max_bad: float = MAX_BAD,
    workers: int | None = None,
    tasks: bool = False,
    force: bool = False,
) -> Manifest:
    """Write the pictures of `source`, in order, to the beton `dest` and its manifest beside it.

    The same source and options give the same bytes, whoever encodes them. If `dest`
    already holds just that, undamaged, nothing is done.

    max_resolution: pictures whose longer side has more pixels are shrunk to it (as FFCV does).
    quality: of JPEG, 1 to 100.
    write_mode: "raw" pixels, "jpg", or "smart": raw up to 64x64 pixels, JPEG above; by
        default smart, and raw for a source that is `lossless`.
    max_bad: the share of the pictures that may be left out, for they do not decode or are too
        large, or a handful, see `BadPictures`; the manifest lists them. Of tiles, the share of the
        pictures that they are cut from.
    workers: threads that decode and encode; by default one per core.
    tasks: Ray's, on every CPU of the cluster that this process is part of, in their place.
    force: write it also where `dest` already holds just that.

    Raises InputError if an option or a label is wrong or too many pictures are bad, DiskFullError
    if there is no room for it; `dest` is then as it was.
    """
    options = _options(source, max_resolution, quality, write_mode)
    dest = Path(dest)
    if dest.is_dir():
        raise InputError(
            f"{dest}: expected the name of a file to write, found a folder; name a file in it, "
            f"such as {dest / source.split}.beton"
        )
    check_fits(source.classes)
    fingerprint = made_from(source, max_resolution, quality, write_mode)
    present = None if force else _present(dest, fingerprint)
    if present is not None:
        # Asking the source would open it.
        pictures = present.options.get("pictures", present.samples + present.left_out)
        bad = BadPictures(source.name, int(pictures or 0), max_bad)
        bad.check(present.left_out, present.left_out_for)
        logger.info("%s already holds %s %s", dest, source.name, source.split)
        return present
    # FFCV and OpenCV, which data that are there have no need of.
    from pipeline.data.ingest.beton_writer import write
    from pipeline.data.ingest.encode import Encoder, by_threads

    encoder = Encoder(source, **options)
    if tasks:
        from pipeline.data.ingest.encode_tasks import by_tasks

        encoded = by_tasks(encoder)
    else:
        encoded = by_threads(encoder, workers)
    pictures = source.tiles.get("pictures", len(source))
    bad = BadPictures(source.name, pictures, max_bad)
    with closing(encoded), atomic_file(dest) as temporary:
        statistics = write(source, encoded, encoder.field, temporary, dest.parent, bad)
        manifest = Manifest(
            beton=dest,
            classes=source.classes,
            digest=sha256(temporary),
            size=temporary.stat().st_size,
            source=source.name,
            split=source.split,
            fingerprint=fingerprint,
            options=options | dict(source.tiles),
            versions={name: version(name) for name in LIBRARIES},
            left_out=bad.count,
            left_out_for=tuple(bad.reasons),
            unused=dict(source.unused),
            **statistics,
        )
        # From here until the new manifest is there, `dest` is a beton without one: refused.
        manifest_path(dest).unlink(missing_ok=True)
    write_manifest(manifest)
    if bad.count:
        logger.warning(
            "%s %s: %d of %d pictures are left out: %s",
            source.name,
            source.split,
            bad.count,
            pictures,
            listed(bad.reasons, most=3),
        )
    return manifest


def written(source: Source, dest: Path, **options: Any) -> Manifest | None:
    """The manifest at `dest`, if `ingest` made it from that source by these options of `made_from`.

    The beton itself is not looked into.
    """
    try:
        manifest = read_manifest(dest)
    except InputError:
        return None
    return manifest if manifest.fingerprint == made_from(source, **options) else None


def made_from(
    source: Source,
    max_resolution: int | None = None,
    quality: int = QUALITY,
    write_mode: str | None = None,
) -> str:
    """A digest of all that a beton is made from; raises InputError for an option that is wrong."""
    options = _options(source, max_resolution, quality, write_mode)
    made = [FORMAT, source.fingerprint(), source.classes, options, *source.last_changes()]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()


def _options(
    source: Source, max_resolution: int | None, quality: int, write_mode: str | None
) -> dict[str, Any]:
    write_mode = write_mode or ("raw" if source.lossless else "smart")
    if max_resolution is not None and not 1 <= max_resolution <= LONGEST_SIDE:
        raise InputError(
            f"max_resolution: expected 1 to {LONGEST_SIDE} pixels, found {max_resolution}"
        )
    if not 1 <= quality <= 100:
        raise InputError(f"quality: expected 1 to 100, found {quality}")
    if write_mode not in WRITE_MODES:
        raise InputError(f"write_mode: expected {', '.join(WRITE_MODES)}, found {write_mode!r}")
    return {"max_resolution": max_resolution, "quality": quality, "write_mode": write_mode}


def _present(dest: Path, fingerprint: str) -> Manifest | None:
    """What is there, if it was made from the same and is not damaged."""
    if not dest.exists():
        return None
    try:
        manifest = read_manifest(dest)
        if manifest.fingerprint != fingerprint:
            return None
        manifest.records()
    except InputError as error:
        logger.warning("made again: %s", error)
        return None
    return manifest
