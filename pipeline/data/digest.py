"""A file's content, held to its SHA-256 once per file and node, and remembered."""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from dsnet.errors import InputError
from dsnet.io.files import atomic_file, sha256

logger = logging.getLogger(__name__)

LARGE = 10**9  # bytes, read in a second or more: worth a line
# A change so soon after another may leave the file's times as they are: a kernel's clock ticks
# every 10 ms at most. Files younger than this are verified, but not remembered.
SETTLED = 100_000_000  # nanoseconds


class FileState(NamedTuple):
    """What changes with whatever is written to a file."""

    device: int
    inode: int
    size: int
    modified: int
    """Time of the last write, in ns; programs that copy set it back."""
    changed: int
    """Time of the last write, or of new permissions, names or times, in ns: nobody sets it."""


def file_state(path: str | Path) -> FileState:
    """The state of the file at `path`."""
    status = os.stat(path)
    times = status.st_mtime_ns, status.st_ctime_ns
    return FileState(status.st_dev, status.st_ino, status.st_size, *times)


def check_digest(path: Path, digest: str) -> None:
    """Read the whole file, unless this node remembers that it did and the file is as it was then.

    What is remembered is in `records_folder`: per path the file's state and its digest. Of
    several processes that ask at once, one reads and the others wait for it.

    Raises InputError if the content's SHA-256 is not `digest`.
    """
    with _record(path.resolve()) as record:
        state = file_state(path)
        verified = {"path": str(path.resolve()), "digest": digest, "state": list(state)}
        if record is not None and _read(record) == verified:
            return
        started = time.time_ns()
        if state.size >= LARGE:
            logger.info("verifying %s (%.1f GB)", path, state.size / 1e9)
        found = sha256(path)
        if found != digest:
            raise InputError(
                f"{path}: expected SHA-256 {digest} as its manifest says, found {found}; the file "
                "is damaged: run `dsnet ingest` again"
            )
        settled = abs(started - state.changed) > SETTLED and file_state(path) == state
        if record is not None and settled:
            with atomic_file(record) as temporary:
                temporary.write_text(json.dumps(verified))


def records_folder() -> Path:
    """This user's folder on this node, for nobody else to write to.

    Raises OSError if it cannot be made, or somebody else could write to it.
    """
    folder = Path(tempfile.gettempdir(), f"dsnet-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder


@contextmanager
def _record(path: Path) -> Iterator[Path | None]:
    """Where `path` is remembered, locked; None, with a warning, where nothing can be."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()
    try:
        folder = records_folder()
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except OSError as error:
        logger.warning("%s: every stage reads it whole, to verify it (%s)", path, error)
        yield None
        return
    try:
        yield folder / f"{name}.json"
    finally:
        lock.release()


def _read(record: Path) -> Any:
    """What a record says; None if there is none or it is damaged."""
    try:
        return json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
