"""What a beton holds: written last and beside it, so a beton without one is not whole."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import line, shown
from dsnet.io.files import atomic_file, read_small
from dsnet.models.metadata import check_classes
from pipeline.config import Uri
from pipeline.data.beton_format import LONGEST_SIDE
from pipeline.data.digest import check_digest
from pipeline.data.headers import read_headers

FORMAT = 1
MOST_BYTES = 2**24
_MOST_OF_COUNT = 16  # bytes, of a class's number of pictures, and of what stands between two


@dataclass(frozen=True)
class RemoteBeton:
    """A beton in a store, with the digest that it had when its manifest was read."""

    uri: Uri
    digest: str

    def __str__(self) -> str:
        return str(self.uri)


Beton = str | Path | RemoteBeton


@dataclass(frozen=True)
class Manifest:
    """A whole beton, described."""

    beton: Path
    """The file described. Not stored: a beton and its manifest may be moved together."""
    samples: int
    """Number of pictures."""
    classes: tuple[str, ...]
    """Class names; a label is a position in them."""
    digest: str
    """SHA-256 of the beton, hexadecimal. The same source and options give the same digest."""
    size: int
    """Bytes in the beton."""
    source: str
    """Where the pictures came from."""
    split: str
    """Which part of the source they are."""
    fingerprint: str
    """What they were made from: source, options and format. Equal means nothing to do again."""
    mean: tuple[float, float, float]
    """Mean of each channel over the stored pictures, in 0..1; each picture counts the same."""
    std: tuple[float, float, float]
    """Standard deviation of each channel about `mean`, in 0..1."""
    max_height: int
    """Height of the tallest picture stored, in pixels."""
    max_width: int
    """Width of the widest picture stored, in pixels."""
    class_counts: tuple[int, ...]
    """Number of pictures of each class."""
    options: dict[str, int | str | None] = field(default_factory=dict)
    """How the pictures were written: see `ingest`."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the libraries that decoded and encoded them."""
    left_out: int = 0
    """Number of the source's pictures that could not be used."""
    left_out_for: tuple[str, ...] = ()
    """Which, and why: of many, the first."""
    unused: dict[str, int] = field(default_factory=dict)
    """Files that lay among the source's and are no pictures of it, by kind, such as `.txt`."""
    compared_with: str = ""
    """Digest of the training beton that a test split was compared with, see `overlap`."""
    in_common: int = 0
    """Number of pictures that are in that one too."""
    origin: RemoteBeton | None = None
    """The beton in a store that `beton` is this node's copy of. Not stored either."""

    @property
    def place(self) -> Beton:
        """What any node finds the beton by: its path, or where to stage it from."""
        return self.beton if self.origin is None else self.origin

    def labels(self) -> np.ndarray:
        """Every sample's label, int64 (samples,), read from the beton.

        Raises InputError if the beton is not what the manifest says, see `verify`.
        """
        return np.array(self.records()["f1"])

    def records(self) -> np.ndarray:
        """FFCV's record of every sample, see `read_headers`; the content is held to `digest`.

        Raises InputError if the beton is not what the manifest says, see `verify`.
        """
        check_digest(self.beton, self.digest)
        return read_headers(
            self.beton,
            self.samples,
            size=self.size,
            classes=len(self.classes),
            max_height=self.max_height,
            max_width=self.max_width,
        )


def manifest_path(beton: str | Path) -> Path:
    """NAME.beton.json, beside NAME.beton."""
    beton = Path(beton)
    return beton.with_name(beton.name + ".json")


def check_fits(classes: Sequence[str]) -> None:
    """Raise InputError for names of classes of which the manifest would be too large to be read."""
    size = sum(len(json.dumps(name)) + _MOST_OF_COUNT for name in classes)
    if size > MOST_BYTES // 2:
        raise InputError(
            f"expected classes whose names and counts have up to {MOST_BYTES // 2:,} bytes in a "
            f"manifest, found {len(classes):,} classes of {size:,}"
        )


def write_manifest(manifest: Manifest) -> None:
    """Store a manifest beside its beton."""
    content = {"format": FORMAT} | asdict(replace(manifest, origin=None))
    del content["beton"], content["origin"]
    with atomic_file(manifest_path(manifest.beton)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_manifest(beton: str | Path) -> Manifest:
    """The manifest of a beton, checked against the beton's size; `verify` checks its content.

    Raises InputError if the beton or its manifest is missing, unreadable or of another size.
    """
    beton = Path(beton)
    path = manifest_path(beton)
    again = "run `dsnet ingest` again"
    if not beton.is_file():
        raise InputError(f"{beton}: expected a beton, found no such file; make it: {again}")
    if not path.is_file():
        raise InputError(
            f"{beton}: expected its manifest {path.name} beside it, found none, so the beton may "
            f"not be whole; {again}"
        )
    manifest = parsed(read_small(path, MOST_BYTES, "a manifest"), beton, path)
    size = beton.stat().st_size
    if size != manifest.size:
        raise InputError(
            f"{beton}: expected {manifest.size} bytes as its manifest says, found {size}; {again}"
        )
    return manifest


def parsed(content: bytes, beton: Path, where: object) -> Manifest:
    """The manifest of `beton` that was written as `content`; raises InputError, naming `where`."""
    try:
        values = json.loads(content)
        found = values.pop("format")
        if found != FORMAT:
            raise ValueError(f"format {shown(found)}")
        return Manifest(beton=beton, **_from_json(values))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{where}: expected a manifest of format {FORMAT}, found something else "
            f"({line(error)}); run `dsnet ingest` again"
        ) from error


def verify(beton: str | Path) -> Manifest:
    """`read_manifest`, and the beton held to it: its content by the digest, its headers by bounds.

    A file is read whole once per node, see `check_digest`; headers are checked every time.

    Raises InputError also if the digest differs or a number in the headers is out of bounds.
    """
    manifest = read_manifest(beton)
    manifest.records()
    return manifest


def _from_json(content: dict[str, Any]) -> dict[str, Any]:
    """The stored fields with their types checked: a manifest is a file that others may edit."""
    types = {field.name: field.type for field in fields(Manifest)} | {"beton": None, "origin": None}
    for name, value in content.items():
        kind = types.get(name)
        if kind is str:
            good = isinstance(value, str)
        elif kind is int:
            good = type(value) is int and value >= (0 if name in ("left_out", "in_common") else 1)
            good = good and (value <= LONGEST_SIDE or not name.startswith("max_"))
        elif name == "classes":
            check_classes(name, value)
            good = len(value) > 0
        elif name == "class_counts":
            good = isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
        elif name in ("options", "versions"):
            kinds = str if name == "versions" else int | str | None
            good = isinstance(value, dict)
            good = good and all(isinstance(item, kinds) for item in value.values())
        elif name == "unused":
            good = isinstance(value, dict)
            good = good and all(type(count) is int and count > 0 for count in value.values())
        elif name == "left_out_for":
            good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        elif name in ("mean", "std"):
            good = isinstance(value, list) and len(value) == 3
            good = good and all(isinstance(x, int | float) and 0 <= x <= 1 for x in value)
        else:
            raise ValueError(f"unknown field {shown(name)}")
        if not good:
            raise ValueError(f"{name} is {shown(value)}")
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
