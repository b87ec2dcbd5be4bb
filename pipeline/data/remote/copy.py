"""A file of a store brought to this disk: whole or not there, and taken up where it was left."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from dsnet.errors import InputError, OutageError
from dsnet.io.files import room
from pipeline.data.remote.store import CHUNK, Remote, Store

logger = logging.getLogger(__name__)

_ATTEMPTS = 4  # at one range of bytes
_FIRST_PAUSE = 0.5  # seconds


def is_there(file: Remote, dest: Path) -> bool:
    """Whether `fetch` has brought just this file to `dest`."""
    try:
        status = os.stat(dest)
    except OSError:
        return False
    return status.st_size == file.size and status.st_mtime_ns == _stamp(file)


def fetch(store: Store, file: Remote, dest: Path, told: Callable[[int], object]) -> bool:
    """Bring `file` to `dest`; whether that went on from bytes that an earlier attempt had got.

    Those lie beside `dest` in a hidden file, and count if they are of the same version. told: is
    called with the number of bytes that were there or have come. The time of `dest` is made of the
    file's version, so that it is the same on every node.

    Raises InputError where the file is gone or was written to meanwhile, OutageError where the
    store does not answer; `dest` is then as it was.
    """
    part, note = (dest.with_name(f".{dest.name}.{suffix}") for suffix in ("part", "json"))
    known = json.dumps([store.uri.scheme, file.path, file.size, file.version])
    dest.parent.mkdir(parents=True, exist_ok=True)
    with room(dest.parent, lambda: file.size):
        if not (note.is_file() and note.read_text(errors="replace") == known and part.is_file()):
            part.unlink(missing_ok=True)
            note.write_text(known)
        with open(part, "ab") as content:
            if content.tell() > file.size:
                content.truncate(0)
            resumed = content.tell()
            told(resumed)
            while (start := content.tell()) < file.size:
                data = _read(store, file, start, min(CHUNK, file.size - start))
                content.write(data)
                content.flush()
                told(len(data))
            os.fsync(content.fileno())
    if store.look(file.path) != file:
        part.unlink()
        raise InputError(
            f"{store.uri}: expected files that nobody writes to, found {file.path} changed or gone "
            "while it was read; run the same command again when they are whole"
        )
    os.utime(part, ns=(time.time_ns(), _stamp(file)))
    os.replace(part, dest)
    note.unlink()
    return resumed > 0


def _read(store: Store, file: Remote, start: int, size: int) -> bytes:
    pause = _FIRST_PAUSE
    for _ in range(_ATTEMPTS - 1):
        try:
            return store.read(file, start, size)
        except OutageError as error:
            logger.info("asked again: %s", error)
        time.sleep(pause)
        pause *= 2
    return store.read(file, start, size)


def _stamp(file: Remote) -> int:
    """A time in ns, between 1970 and 2038, that tells one version of a file from another."""
    known = hashlib.sha256(f"{file.version} {file.size}".encode()).digest()
    return int.from_bytes(known[:8], "big") % (2**31 * 10**9)
