"""Where pictures come from: a file for each kind, tried in the order of SOURCES."""

from pathlib import Path

from dsnet.errors import InputError
from dsnet.errors.text import escaped
from pipeline.config import Uri, is_uri, parse_uri
from pipeline.data.sources import (
    cifar,
    class_folders,
    digits,
    idx,
    lists,
    parquet,
    photographs,
    tar,
    unlabelled,
)
from pipeline.data.sources.base import Source

# Each has `opened(spec, split)`, which is None for what is not its kind, and EXPECTED, its kind in
# words. Files before folders: a folder of IDX or Parquet files is no folder of class folders; lists
# before Parquet, whose files may be either.
SOURCES = [digits, photographs, idx, cifar, lists, parquet, tar, class_folders]
# For tasks that learn no labels folders and Parquet files need not have any.
UNLABELLED = [digits, photographs, idx, cifar, lists, tar, unlabelled]


def open_source(spec: str, split: str, labelled: bool = True) -> Source:
    """Open a part of a source.

    spec: what `data.source` says, such as "digits", a folder or a file; see each kind's `opened`.
    labelled: whether folders and Parquet files must have labels.
    What lies behind a URI is fetched to this node first, see `fetch_source`.
    Raises InputError if there is no such source or split, or it is not laid out as expected.
    """
    if not spec.isascii() and spec.encode(errors="ignore").decode() != spec:
        raise InputError(
            f"source {escaped(spec)}: expected a path in UTF-8, as configurations and manifests "
            "are, found other bytes; rename it, or give a link to it"
        )
    place = parse_uri(spec) if is_uri(spec) else Path(spec)
    if not isinstance(place, Uri):
        return _opened(str(place) if is_uri(spec) else spec, split, labelled)
    from pipeline.data.sources.remote_source import RemoteSource, fetch_source

    local = fetch_source(place)
    try:
        source = _opened(local, split, labelled)
    except InputError as error:
        raise type(error)(str(error).replace(local, str(place))) from error
    return RemoteSource(source, local, place, (open_source, spec, split, labelled))


def _opened(spec: str, split: str, labelled: bool) -> Source:
    kinds = SOURCES if labelled else UNLABELLED
    for kind in kinds:
        if (source := kind.opened(spec, split)) is not None:
            return source
    *others, last = [kind.EXPECTED for kind in reversed(kinds)]
    path = Path(spec)
    found = f"another kind of file ({path.suffix or 'no suffix'})"
    if not path.exists():
        found = "no such file or folder"
    raise InputError(f"source {spec}: expected {', '.join(others)} or {last}, found {found}")
