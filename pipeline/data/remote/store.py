"""A store behind a URI: files looked for, read by ranges of bytes, and written.

S3, Google Cloud Storage through Arrow; all else (http, hf, abfs, …) through fsspec. Whatever a
store's library raises comes out as one line, in bounded time, and without what may be secret.
"""

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from dsnet.errors import InputError, OutageError
from dsnet.errors.text import line
from pipeline.config import Uri

T = TypeVar("T")

CHUNK = 8 * 2**20  # bytes that are asked for at once
PATIENCE = 60.0  # seconds for one answer of a store
# What a store says that changes with a file's content, the surest first.
_VERSIONS = (
    *("ETag", "etag", "e_tag", "Content-MD5", "blob_id", "md5Hash", "mtime", "LastModified"),
    *("last_modified", "Last-Modified", "updated"),
)
_SECRET = re.compile(r"\?\S*|//[^/\s@]*@")  # a signature behind an address, a password in it


@dataclass(frozen=True)
class Remote:
    """A file in a store."""

    path: str
    """As its store calls it."""
    size: int
    """Bytes."""
    version: str
    """Another where the content may be another: its ETag, or else the time of its last change."""


class Store(ABC):
    """One store. Every call raises InputError or OutageError, in one line that names the URI."""

    def __init__(self, uri: Uri) -> None:
        self.uri = uri

    def look(self, path: str) -> Remote | None:
        """The file there; None where there is none, or a folder."""
        return self._ask(path, lambda: self._look(path))

    def below(self, path: str) -> list[Remote]:
        """Every file in a folder and the folders in it; none where there is no such folder."""
        return self._ask(path, lambda: self._below(path.rstrip("/")), patience=60 * PATIENCE)

    def read(self, file: Remote, start: int, size: int) -> bytes:
        """`size` bytes from `start` on. Raises InputError where the store has other than these."""
        data = self._ask(file.path, lambda: self._read(file.path, start, size))
        if len(data) == file.size:  # a server that does not know ranges sends all of it
            data = data[start : start + size]
        if len(data) != size:
            raise InputError(
                f"{self._shown(file.path)}: expected bytes {start:,} to {start + size:,} of "
                f"{file.size:,}, found {len(data):,} bytes; it is another file by now, or its "
                "server does not answer ranges"
            )
        return data

    def write(self, local: Path, path: str) -> None:
        """Put a local file there, whole or with an error."""
        size = local.stat().st_size
        self._ask(path, lambda: self._write(local, path), patience=PATIENCE + size / 2**17)
        found = self.look(path)
        if found is None or found.size != size:
            raise OutageError(
                f"{self._shown(path)}: expected {size:,} bytes where they were written, found "
                f"{found.size if found else 'none'}; run the same command again"
            )

    def delete(self, path: str) -> None:
        """Remove the file there, if there is one."""
        if self.look(path) is not None:
            self._ask(path, lambda: self._delete(path))

    @property
    @abstractmethod
    def path(self) -> str:
        """The URI's own path, as the store calls it."""

    @abstractmethod
    def _look(self, path: str) -> Remote | None: ...

    @abstractmethod
    def _below(self, path: str) -> list[Remote]: ...

    @abstractmethod
    def _read(self, path: str, start: int, size: int) -> bytes: ...

    @abstractmethod
    def _write(self, local: Path, path: str) -> None: ...

    @abstractmethod
    def _delete(self, path: str) -> None: ...

    def _shown(self, path: str) -> str:
        return path if "://" in path else f"{self.uri.scheme}://{path}"

    def _ask(self, path: str, call: Callable[[], T], patience: float = 0) -> T:
        with _told(self._shown(path)):
            return within(patience or PATIENCE, call)


def open_store(uri: Uri) -> Store:
    """The store that a URI is of. Raises InputError where a package for it is missing."""
    with _told(str(uri)):
        return within(PATIENCE, lambda: (_Arrow if uri.scheme in ("s3", "gs") else _Fsspec)(uri))


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises. Raises TimeoutError where it does neither in that time.

    A library that waits for ever is left waiting, in a thread that no exit waits for.
    """
    found: list[T] = []
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            found.append(call())
        except BaseException as error:  # for the thread that waits
            raised.append(error)

    thread = threading.Thread(target=ask, name="store", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not found:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return found[0]


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What libraries raise within, in one line."""
    try:
        yield
    except (InputError, OutageError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where}: expected a file or folder there, found none") from error
    except PermissionError as error:
        raise InputError(
            f"{where}: its store does not let in whoever asks ({_reason(error)}); give credentials "
            "where its library looks for them, see docs/data.md"
        ) from error
    except ImportError as error:
        raise InputError(f"{where}: a package for it is missing: {_reason(error)}") from error
    except Exception as error:  # each library has errors of its own
        reason = _reason(error)
        if "ACCESS_DENIED" in reason or "Forbidden" in reason:
            raise InputError(
                f"{where}: its store does not let in whoever asks: {reason}"
            ) from error
        if isinstance(error, ValueError):  # no such scheme, no such name
            raise InputError(f"{where}: expected the URI of a store, found {reason}") from error
        raise OutageError(
            f"{where}: its store does not answer ({reason}); see that it can be reached, and run "
            "the same command again"
        ) from error


def _reason(error: BaseException) -> str:
    return _SECRET.sub("…", line(error))


class _Arrow(Store):
    """S3 and Google Cloud Storage, by Arrow's own file systems."""

    def __init__(self, uri: Uri) -> None:
        super().__init__(uri)
        from pyarrow import fs

        options: dict[str, Any] = dict(uri.options)
        if uri.scheme == "gs":
            limit = timedelta(seconds=PATIENCE / 2)
            self._files = fs.GcsFileSystem(
                anonymous=uri.anonymous, retry_time_limit=limit, **options
            )
        else:
            # Arrow reads this variable for URIs of its own alone.
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            if endpoint and "endpoint_override" not in options:
                scheme, _, place = endpoint.rpartition("://")
                options = {"endpoint_override": place, "scheme": scheme or "https"} | options
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            if "endpoint_override" not in options and "region" not in options and not region:
                options["region"] = fs.resolve_s3_region(uri.host)
            self._files = fs.S3FileSystem(
                anonymous=uri.anonymous,
                connect_timeout=10,
                request_timeout=PATIENCE / 2,
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
                **options,
            )

    @property
    def path(self) -> str:
        return self.uri.place

    def _look(self, path: str) -> Remote | None:
        from pyarrow import fs

        info = self._files.get_file_info(path)
        return _of_arrow(info) if info.type == fs.FileType.File else None

    def _below(self, path: str) -> list[Remote]:
        from pyarrow import fs

        wanted = fs.FileSelector(path, recursive=True, allow_not_found=True)
        found = self._files.get_file_info(wanted)
        return [_of_arrow(info) for info in found if info.type == fs.FileType.File]

    def _read(self, path: str, start: int, size: int) -> bytes:
        with self._files.open_input_file(path) as file:
            data: bytes = file.read_at(size, start)
        return data

    def _write(self, local: Path, path: str) -> None:
        with open(local, "rb") as file, self._files.open_output_stream(path) as out:
            while data := file.read(CHUNK):
                out.write(data)

    def _delete(self, path: str) -> None:
        self._files.delete_file(path)


def _of_arrow(info: Any) -> Remote:
    return Remote(info.path, info.size, str(info.mtime_ns))


class _Fsspec(Store):
    """Whatever fsspec has a file system for."""

    def __init__(self, uri: Uri) -> None:
        super().__init__(uri)
        import fsspec

        self._web = uri.scheme in ("http", "https")
        self._files = fsspec.filesystem(uri.scheme, use_listings_cache=False)
        self._path: str = self._files._strip_protocol(f"{uri.scheme}://{uri.place}")

    @property
    def path(self) -> str:
        return self._path

    def _look(self, path: str) -> Remote | None:
        try:
            info = self._files.info(path)
        except FileNotFoundError:
            return None
        # A web server knows no folders: it sends us to a page that lists one.
        if info["type"] != "file" or str(info.get("url", "")).endswith("/"):
            return None
        if info.get("size") is None:
            raise InputError(
                f"{self._shown(path)}: expected a file of a known size, found one of none"
            )
        return _of_fsspec(path, info)

    def _below(self, path: str) -> list[Remote]:
        try:
            found = self._files.find(path + "/" * self._web, detail=True)
        except FileNotFoundError:
            return []
        files = []
        for name, info in found.items():
            if self._web and "?" in name:  # a listing's links that sort it
                continue
            known = _of_fsspec(name, info) if info.get("size") is not None else self._look(name)
            if known is not None:
                files.append(known)
        return files

    def _read(self, path: str, start: int, size: int) -> bytes:
        data: bytes = self._files.cat_file(path, start=start, end=start + size)
        return data

    def _write(self, local: Path, path: str) -> None:
        if self._web:
            raise InputError(f"{path}: expected a store to write to, found a web server")
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(local), path)

    def _delete(self, path: str) -> None:
        self._files.rm_file(path)


def _of_fsspec(path: str, info: Any) -> Remote:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
    return Remote(path, int(info["size"]), version)
