"""Files and folders that are either whole or not there: written aside, synced, renamed.

They are as readable as anything that the process makes: 0666 and 0777 less its umask, whatever
wrote them. `mkstemp`, `mkdtemp` and safetensors make files and folders for their owner alone.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dsnet.errors import DiskFullError, DivergenceError, InputError, OutageError, causes
from dsnet.errors.text import shown

SUMS = "SHA256SUMS"
_LONGEST_NAME = 500  # characters
_MOST_SUMS = 2**20  # bytes: more than 10,000 files

SHARED_MEMORY = Path("/dev/shm")  # where processes share buffers; 64 MB in a container of Docker's
_ROOM = 2**20  # bytes: with less a disk is full, whatever was to be written

_FULL = (errno.ENOSPC, errno.EDQUOT)
# As safetensors, SQLite and MLflow put it, who raise errors of their own for it.
_FULL_TEXT = re.compile("No space left on device|Disk quota exceeded|database or disk is full")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_small(path: str | Path, most: int, what: str) -> bytes:
    """A file that others may have written, whole: a regular one of up to `most` bytes.

    what: it should be, for the refusal: `a manifest`. Raises InputError for anything else that is
    there, without waiting for a pipe's other end, and OSError as `open` does.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
        raise InputError(f"{path}: expected {what} in a regular file, found {kind}")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(
            f"{path}: expected {what} of up to {most:,} bytes, found {about.st_size:,}"
        )
    return content


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every other file below `folder`; `sha256sum -c` reads it too."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / SUMS)
    lines = [f"{sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / SUMS).write_text("".join(lines))


def read_sums(folder: Path) -> dict[str, str]:
    """What a folder's SHA256SUMS says: path in the folder to digest.

    Raises InputError for a file that is far too long to be one, for names that nobody could read,
    and where it names what lies outside its folder: reading that would tell whoever wrote it what
    is there.
    """
    path = folder / SUMS
    content = read_small(path, _MOST_SUMS, "checksums")
    sums: dict[str, str] = {}
    for line in content.decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        parts = PurePosixPath(name)
        readable = name.isprintable() and len(name) <= _LONGEST_NAME
        if parts.is_absolute() or ".." in parts.parts or not readable:
            raise InputError(f"{path}: expected files of its own folder, found {shown(name)}")
        sums[name] = digest
    return sums


def first_damaged(folder: Path, needed: Iterable[str] = ()) -> str | None:
    """The first file that is missing or other than SHA256SUMS says; None if none is.

    needed: files that have to be there, and among the sums.
    """
    sums = read_sums(folder)
    for name in (*needed, *sums):
        path = folder / name
        if name not in sums or not path.is_file() or sha256(path) != sums[name]:
            return name
    return None


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what it was raised for, says that a disk or a quota has no room left."""
    return any(
        isinstance(cause, DiskFullError)
        or (isinstance(cause, OSError) and cause.errno in _FULL)
        or _FULL_TEXT.search(str(cause)) is not None
        for cause in causes(error)
    )


def disk_full(folder: str | Path, needed: int | None = None) -> DiskFullError:
    """The error that says so of the disk of `folder`. needed: bytes, where that is known."""
    present = Path(folder).absolute()
    present = next(path for path in (present, *present.parents) if path.exists())
    disk = shutil.disk_usage(present)
    if disk.free > max(needed or 0, _ROOM) and (other := _else_full(present, needed)):
        return DiskFullError(other)
    wanted = "" if needed is None else f", about {_megabytes(needed)} needed"
    return DiskFullError(
        f"{folder}: its disk is full ({_megabytes(disk.free)} of {_megabytes(disk.total)} free"
        f"{wanted}); make room and run the same command again, what was there before is whole"
    )


def _else_full(folder: Path, needed: int | None) -> str | None:
    """What has run out where the disk of `folder` has room; None where that cannot be told."""
    if SHARED_MEMORY.is_dir():
        memory = shutil.disk_usage(SHARED_MEMORY)
        if memory.free < max(needed or 0, _ROOM):
            return (
                f"{SHARED_MEMORY}: the shared memory is full ({_megabytes(memory.free)} of "
                f"{_megabytes(memory.total)} free), and {folder} has room; remove what fills it or "
                "make it larger (docker run --shm-size 8g), and run the same command again"
            )
    files = os.statvfs(folder)
    if files.f_files and not files.f_favail:
        return (
            f"{folder}: its disk has room, and no place for another file (all {files.f_files:,} "
            "inodes are taken); remove files and run the same command again"
        )
    return None


@contextmanager
def room(folder: str | Path, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Within, what fails for want of room in `folder` raises DiskFullError.

    needed: bytes, asked for when it has failed.
    """
    try:
        yield
    except DiskFullError:
        raise  # it knows better
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise disk_full(folder, needed() if needed is not None else None) from error


def root_cause(error: BaseException) -> Exception | None:
    """Of an error and what it was raised for, the first that a user can do something about.

    An InputError, DivergenceError or OutageError; a full disk by any name is a DiskFullError. Where
    Ray passes on what a worker raised, it is a new one with the same line. None for all else.
    """
    for cause in causes(error):
        for kind in (InputError, DivergenceError, DiskFullError, OutageError):
            if isinstance(cause, kind):
                # Ray's errors are made to look like what they stand for; this one is that alone.
                return kind(_first(cause, kind))
    if is_disk_full(error):
        return DiskFullError(
            "a disk that a worker writes to is full: "
            + " ".join(str(list(causes(error))[-1]).split())
        )
    return None


def _first(error: BaseException, kind: type[Exception]) -> str:
    """What the plain error said that `error` stands for."""
    inner = getattr(error, "cause", None)
    return _first(inner, kind) if isinstance(inner, kind) else str(error)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it replaces `path` on success only.

    Raises DiskFullError where there is no room for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        with room(path.parent):
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; it replaces `path` on success only.

    Raises DiskFullError where there is no room for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = temporary.with_name(temporary.name + ".old")
    try:
        with room(path.parent):
            yield temporary
            share(temporary)
            for root, _, files in os.walk(temporary):
                for name in files:
                    _sync(Path(root, name))
                _sync(Path(root))
            if path.exists():
                os.replace(path, old)  # a folder that is not empty cannot be replaced in one step
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def share(folder: str | Path) -> None:
    """Give a folder, and all in it, the modes that the process's umask leaves."""
    mask = _umask()
    for root, _, files in os.walk(folder):
        os.chmod(root, 0o777 & ~mask)
        for path in (Path(root, name) for name in files):
            if not path.is_symlink():  # what it points to is not ours
                path.chmod(0o666 & ~mask)


def _umask() -> int:
    """The umask of this process."""
    # os.umask tells it by setting another for a moment, under which other threads may make files.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    if found := re.search(r"^Umask:\s*([0-7]+)$", status, re.MULTILINE):
        return int(found[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
