"""Files and folders that are either whole or not there: written aside, synced, renamed.

They are as readable as anything that the process makes: 0666 and 0777 less its umask, whatever
wrote them. `mkstemp`, `mkdtemp` and safetensors make files and folders for their owner alone.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

SUMS = "SHA256SUMS"


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every other file below `folder`; `sha256sum -c` reads it too."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / SUMS)
    lines = [f"{sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / SUMS).write_text("".join(lines))


def read_sums(folder: Path) -> dict[str, str]:
    """What a folder's SHA256SUMS says: path in the folder to digest."""
    sums: dict[str, str] = {}
    for line in (folder / SUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` on success only."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` on success only."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = temporary.with_name(temporary.name + ".old")
    try:
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
