"""URIs of pictures and betons: read once at the edge, without secrets in them."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, unquote

from dsnet.errors import InputError
from dsnet.errors.text import CONTROL, shown

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_OPTIONS = {"s3": ("endpoint_override", "region", "scheme"), "gs": ("endpoint_override", "scheme")}
_ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Uri:
    """Where something lies in a store: `s3://bucket/photos`."""

    scheme: str
    host: str
    """The part before the first slash: a bucket, a server."""
    path: str
    """What follows it, without a slash at either end; of sources it may be a pattern."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the store: endpoint_override, region, scheme."""
    anonymous: bool = False
    """Whether no credentials are to be looked for."""

    @property
    def name(self) -> str:
        """The last part of the path, or the host where there is none."""
        return PurePosixPath(self.path).name or self.host

    @property
    def place(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}".rstrip("/")

    def __truediv__(self, name: str) -> "Uri":
        path = f"{self.path}/{name}".lstrip("/")
        return Uri(self.scheme, self.host, path, self.options, self.anonymous)

    def __str__(self) -> str:
        user = f"{_ANONYMOUS}@" if self.anonymous else ""
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.scheme}://{user}{self.place}" + (f"?{query}" if query else "")


def is_uri(text: str) -> bool:
    """Whether it begins as a URI does: `s3://`."""
    return _URI.match(text) is not None


def parse_uri(text: str) -> Uri | Path:
    """A URI; of `file://` the path, which is used in place.

    Raises InputError for what is none, or has a user, a password or a signature in it, which would
    be written into manifests and logs: these are not repeated.
    """
    if (parts := _URI.fullmatch(text)) is None:
        raise InputError(f"expected a URI such as s3://bucket/folder, found {shown(text)}")
    scheme, rest = parts[1].lower(), parts[2]
    scheme = "gs" if scheme == "gcs" else scheme
    rest, query = _without_query(rest)
    host, _, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    anonymous = user == _ANONYMOUS and scheme in _OPTIONS
    if at and not anonymous:
        raise InputError(
            f"{scheme}://…: expected no user or password in a URI, found some; put them where the "
            "store's library looks for them, as docs/data.md says"
        )
    options = tuple(parse_qsl(query))
    known = _OPTIONS.get(scheme, ())
    if query and (not options or not {name for name, _ in options} <= set(known)):
        raise InputError(
            f"{scheme}://{shown(host)[1:-1]}/…: expected behind the ? of a URI "
            f"{' or '.join(known) or 'nothing'}, found something else, which may be secret"
        )
    if CONTROL.search(text) or ".." in path.split("/"):
        raise InputError(f"expected a URI without .. or control codes, found {shown(text)}")
    if scheme == "file":
        if host not in ("", "localhost"):
            raise InputError(f"expected file:///PATH on this machine, found {shown(text)}")
        return Path("/" + unquote(path))
    if not host and not path:
        raise InputError(f"expected a bucket or a server in a URI, found {shown(text)}")
    # Without a host there is a file system: its paths begin with a slash.
    return Uri(scheme, host, path.rstrip("/"), options, anonymous)


def checked(text: str) -> str:
    """`text`, a path or a URI. Raises InputError as `parse_uri` does."""
    if is_uri(text):
        parse_uri(text)
    return text


def _without_query(rest: str) -> tuple[str, str]:
    """What is before and behind the ?, which in patterns stands for any character."""
    before, mark, behind = rest.rpartition("?")
    return (before, behind) if mark and "=" in behind else (rest, "")
