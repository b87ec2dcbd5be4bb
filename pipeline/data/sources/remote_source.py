"""A source behind a URI: its files are fetched to this node's cache, and read there as local ones.

So each kind of source stays as it is, and the pictures give the same beton from wherever they come.
"""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dsnet.errors import InputError
from dsnet.errors.text import CONTROL, shown
from pipeline.cluster.progress import Progress
from pipeline.config import Uri
from pipeline.data.remote.cache import filling, hold, reserve
from pipeline.data.remote.copy import fetch, is_there
from pipeline.data.remote.store import Remote, Store, open_store
from pipeline.data.sources import class_names, lists
from pipeline.data.sources.base import Sample, Source
from pipeline.data.sources.derived import Derived

AT_ONCE = 16  # files
MEGABYTE = 10**6


class RemoteSource(Derived):
    """A source that was fetched: named after its URI, in messages too."""

    def __init__(self, source: Source, local: str, uri: Uri, asked: tuple[Any, ...]) -> None:
        """asked: what opens it again, on another node, and with what."""
        super().__init__(source)
        self._local, self._uri, self._asked = local, str(uri), asked
        self.name, self.files = self._told(source.name), ()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._asked[0], self._asked[1:]

    def __getitem__(self, index: int) -> Sample:
        try:
            sample = self._source[index]
        except InputError as error:
            raise InputError(self._told(str(error))) from error
        return replace(sample, path=self._told(sample.path))

    def _told(self, text: str) -> str:
        return text.replace(self._local, self._uri)


def fetch_source(uri: Uri) -> str:
    """Fetch what is at `uri`, a file, a folder or a pattern; where it lies, as a local source.

    What is here of the same version is not fetched again; what the store no longer has is deleted.
    Raises InputError where there is nothing, or it changes or vanishes meanwhile, and OutageError
    where the store does not answer or there is no room here.
    """
    store = open_store(uri)
    root = hold(f"source-{hashlib.sha256(str(uri).encode()).hexdigest()[:40]}")
    with filling(root, str(uri)):
        spec, files = _found(store)
        _fetch_all(store, files, root)
        more: dict[str, Remote] = {}
        if len(files) <= AT_ONCE and not any("/" in name for name in files):
            more = _listed(store, [name for name in files if lists.is_list(root / name)], root)
            _fetch_all(store, more | files, root)
        for path in sorted(root.rglob("*"), reverse=True):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name not in files and name not in more:
                path.unlink()
    return str(root / spec)


def _found(store: Store) -> tuple[str, dict[str, Remote]]:
    """The source within the cache's folder, and its files by their names there."""
    parts = store.path.split("/")
    magic = next((number for number, part in enumerate(parts) if has_magic(part)), None)
    if magic is not None:
        base, pattern = "/".join(parts[:magic]), parts[magic:]
        below = _named(store.below(base), base)
        files = {n: file for n, file in below.items() if _matches(n.split("/"), pattern)}
        folders = {n.rpartition("/")[0] for n in files}
        names = {f"{folder}/{class_names.FILE}".lstrip("/") for folder in folders}
        files |= {n: file for n, file in below.items() if n in names and files}
        spec = "/".join(pattern)
    elif (file := store.look(store.path)) is not None:
        base = store.path.rpartition("/")[0]
        spec = next(iter(_named([file], base)))
        files = {spec: file}
        if (names_file := store.look(f"{base}/{class_names.FILE}")) is not None:
            files[class_names.FILE] = names_file
    else:
        spec = store.uri.name
        below = _named(store.below(store.path), store.path)
        files = {f"{spec}/{name}": file for name, file in below.items()}
    if not files:
        raise InputError(f"source {store.uri}: expected files there, found none")
    return spec, files


def _listed(store: Store, names: Sequence[str], root: Path) -> dict[str, Remote]:
    """The pictures that lists name. One that is not there is left to who reads it."""
    base = store.path.rpartition("/")[0]
    paths = [path for name in names for path in lists.columns(root / name)[0]]
    for path in paths:
        if path.startswith("/") or ".." in path.split("/") or CONTROL.search(path):
            raise InputError(
                f"source {store.uri}: expected paths below the list's folder, found {shown(path)}"
            )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda path: store.look(f"{base}/{path}"), paths)
    return {path: file for path, file in zip(paths, found, strict=True) if file is not None}


def _fetch_all(store: Store, files: dict[str, Remote], root: Path) -> None:
    missing = {name: file for name, file in files.items() if not is_there(file, root / name)}
    if not missing:
        return
    reserve(root, sum(file.size for file in files.values()), str(store.uri))
    size = sum(file.size for file in missing.values())
    total = max(1, size // MEGABYTE)
    done, adding = 0, threading.Lock()
    with Progress(f"fetch {store.uri.name}", total=total, unit="MB") as progress:

        def told(count: int) -> None:
            nonlocal done
            with adding:
                done += count
                progress.update(min(total, done // MEGABYTE))

        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            list(
                pool.map(lambda item: fetch(store, item[1], root / item[0], told), missing.items())
            )
        finally:
            pool.shutdown(cancel_futures=True)


def _named(files: Sequence[Remote], base: str) -> dict[str, Remote]:
    """Files by their paths below `base`, without hidden ones, which no source reads."""
    named: dict[str, Remote] = {}
    for file in files:
        name = file.path.removeprefix(base).lstrip("/")
        name = unquote(name) if "://" in file.path else name
        parts = name.split("/")
        if any(part.startswith(".") and part not in (".", "..") for part in parts):
            continue
        if not all(parts) or {".", ".."} & set(parts) or CONTROL.search(name):
            raise InputError(f"{base}: expected names of files, found {shown(name)}")
        named[name] = file
    return named


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches as `glob` has it: * within a name, ** any folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
