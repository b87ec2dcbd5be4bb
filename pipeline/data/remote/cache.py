"""This node's cache: what was brought here, within a limit, least recently used out first.

An entry is a folder, and beside it three files that stay: `.use`, which every process that uses the
entry holds a shared lock on, and whose time is that of the last use; `.lock`, held by the one that
fills it; `.size`, what it will have once it is full. The kernel lets go of a lock when its process
ends, however it ends.
"""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from dsnet.errors import InputError, OutageError
from dsnet.io.files import disk_full
from pipeline.data.digest import records_folder

logger = logging.getLogger(__name__)

FOLDER, LIMIT = "DSNET_CACHE", "DSNET_CACHE_LIMIT"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)

_held: dict[Path, IO[bytes]] = {}  # the locks of this process, until it ends


def cache_folder() -> Path:
    """$DSNET_CACHE, or `cache` in this user's folder among the node's temporary ones."""
    named = os.environ.get(FOLDER)
    folder = Path(named).expanduser().absolute() if named else records_folder() / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_limit(folder: Path) -> int:
    """Bytes for all entries: $DSNET_CACHE_LIMIT, or half of what they have and what is free."""
    text = os.environ.get(LIMIT)
    if not text:
        return (shutil.disk_usage(folder).free + sum(map(_on_disk, _entries(folder)))) // 2
    if (found := _SIZE.fullmatch(text.strip())) is None:
        raise InputError(f"{LIMIT}: expected a size such as 500G, found {text!r}")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


def hold(name: str) -> Path:
    """The folder of an entry, made if it is not there; it stays until this process has ended."""
    folder = cache_folder() / name
    if folder not in _held:
        file = open(_beside(folder, "use"), "ab")  # noqa: SIM115  its lock goes with it
        fcntl.flock(file, fcntl.LOCK_SH)
        _held[folder] = file
    os.utime(_beside(folder, "use"))
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def filling(folder: Path, what: str) -> Iterator[None]:
    """While one process fills an entry, the others that would wait for it."""
    lock = FileLock(_beside(folder, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: another process brings it to this node; waiting for its end", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def reserve(folder: Path, size: int, what: str) -> None:
    """Make room for an entry that this process holds and fills to have `size` bytes.

    Entries that nobody holds are deleted, those that were not used for longest first, as many as it
    takes. Raises OutageError, saying how much is needed, where that is not enough.
    """
    root = folder.parent
    with FileLock(root / "room.lock"):
        limit = cache_limit(root)
        _beside(folder, "size").write_text(str(size))
        others = {entry: _counted(entry) for entry in _entries(root) if entry != folder}
        total = size + sum(others.values())
        missing = size - _on_disk(folder)
        for entry in sorted(others, key=_last_used):
            if total <= limit and missing <= shutil.disk_usage(root).free:
                return
            if _deleted(entry):
                logger.info("%s: deleted for want of room, not used for longest", entry)
                total -= others[entry]
        if total > limit:
            _beside(folder, "size").unlink()
            raise OutageError(
                f"{what}: needs {size / 1e9:,.2f} GB in {root}, whose limit is {limit / 1e9:,.2f} "
                f"GB with {(total - size) / 1e9:,.2f} GB in use; raise {LIMIT}, or name a larger "
                f"disk with {FOLDER}"
            )
        if missing > shutil.disk_usage(root).free:
            raise disk_full(root, missing)


def _entries(root: Path) -> list[Path]:
    return [path.with_suffix("") for path in root.glob("*.use") if path.with_suffix("").is_dir()]


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f"{folder.name}.{kind}")


def _last_used(folder: Path) -> float:
    return _beside(folder, "use").stat().st_mtime


def _on_disk(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(root, name)).st_size
        for root, _, names in os.walk(folder)
        for name in names
        if os.path.lexists(os.path.join(root, name))
    )


def _counted(folder: Path) -> int:
    """What an entry has, or will have: another process may be at it."""
    file = _beside(folder, "size")
    text = file.read_text() if file.is_file() else ""
    return max(int(text) if text.isdigit() else 0, _on_disk(folder))


def _deleted(folder: Path) -> bool:
    """Delete an entry, unless a process holds it."""
    with open(_beside(folder, "use"), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(folder)
        _beside(folder, "size").unlink(missing_ok=True)
        return True
