"""Tar shards in WebDataset's layout: files of one sample follow each other and share their name."""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from dsnet.errors import InputError
from dsnet.runtime.pictures import MOST_BYTES
from pipeline.data.sources.base import Sample, Source
from pipeline.data.sources.class_names import named
from pipeline.data.sources.shards import beside, found
from pipeline.data.sources.walk import (
    in_words,
    is_passed_over,
    kind_of_file,
    picture_suffixes,
)

EXPECTED = "a .tar file"

LABEL = ".cls"
LONGEST_LABEL = 1000  # bytes
_LOOKED_AT = 32  # members, to tell a shard from another archive


def opened(spec: str, split: str) -> Source | None:
    """A .tar file, a folder of them, or a pattern; which are a split's, see `shards.found`."""
    paths = found(spec, ".tar", split, _is_shard)
    return TarShards(spec, paths, split) if paths else None


@dataclass(frozen=True)
class _Member:
    """A picture in a shard."""

    shard: int
    name: str
    start: int
    size: int  # bytes


class TarShards(Source):
    """Shards in which KEY.jpg (or another kind of picture) has its label in KEY.cls.

    A label is a number or a class name, see `class_names.named`. The headers of every shard are
    read once, to know where each picture is; pictures are then read by position, in any order.
    """

    def __init__(self, spec: str, paths: Sequence[Path], split: str) -> None:
        self.name, self.split = spec, split
        self.files = self._paths = list(paths)
        self._members: list[_Member] = []
        values: list[str] = []
        unused = beside(spec, paths)
        for number, path in enumerate(self._paths):
            for picture, label in _samples(number, path, unused):
                self._members.append(picture)
                values.append(label)
        if not values:
            raise InputError(
                f"source {spec}: expected at least one sample, KEY.jpg and KEY{LABEL} with no dot "
                f"in KEY, found none but {in_words(unused) or 'an empty archive'}"
            )
        self._leave(unused)
        self._labels, self.classes = named(values, self._paths[0].parent, spec, split)

    def __getitem__(self, index: int) -> Sample:
        member = self._members[index]
        shard = self._paths[member.shard]
        path = f"{shard}, {member.name}"
        if member.size > MOST_BYTES:
            raise InputError(
                f"{path}: expected an image file of up to {MOST_BYTES:,} bytes, found "
                f"{member.size:,}"
            )
        with open(shard, "rb") as file:
            file.seek(member.start)
            return Sample(file.read(member.size), int(self._labels[index]), path)


def _is_shard(path: Path) -> bool:
    """Whether it begins as one does, with a label among its first files."""
    try:
        with tarfile.open(path, "r:") as archive:
            return any(
                member.name.lower().endswith(LABEL) for member in islice(archive, _LOOKED_AT)
            )
    except (tarfile.TarError, OSError, EOFError):
        return False


def _samples(number: int, path: Path, unused: Counter[str]) -> Iterator[tuple[_Member, str]]:
    """A shard's pictures and their labels as text, in order; other files are counted by kind."""
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            key, parts = "", _Parts(path)
            for member in _headers(path, archive):
                folder, name = os.path.split(member.name)
                if member.isdir() or is_passed_over(name):
                    continue
                if not member.isreg():
                    unused["no regular files"] += 1
                    continue
                stem, _, suffix = name.partition(".")
                if (own := f"{folder}/{stem}") != key:
                    yield from parts.whole()
                    key, parts = own, _Parts(path)
                if not parts.take(number, member, f".{suffix}".lower(), file):
                    unused[_kind(name)] += 1
            yield from parts.whole()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: expected a tar file without compression, found something else or a part of "
            f"one ({error}); pictures are compressed already: pack them plainly"
        ) from error


def _kind(name: str) -> str:
    """How a file that is not used is counted; a picture or a label has a dot in its key."""
    kind = kind_of_file(name)
    seems_used = kind == LABEL or kind in picture_suffixes()
    return f"{kind} with a dot in the key" if seems_used else kind


def _headers(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member. A header that says it is followed by an earlier one is refused."""
    before = -1
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # of millions it would keep each
        if member.size < 0 or archive.offset <= before:
            raise InputError(f"{path}, {member.name}: expected a size, found {member.size}")
        before = archive.offset
        yield member


class _Parts:
    """The picture and the label of one sample, as they come."""

    def __init__(self, shard: Path) -> None:
        self._shard = shard
        self._picture: _Member | None = None
        self._label: str | None = None
        self._name = ""

    def take(self, number: int, member: tarfile.TarInfo, suffix: str, file: BinaryIO) -> bool:
        """One file of the sample; whether it is used, as picture or label."""
        self._name = member.name
        if suffix == LABEL:
            if self._label is not None:
                raise InputError(
                    f"{self._shard}, {member.name}: expected one label for each sample, found two"
                )
            self._label = self._text(member, file)
        elif suffix in picture_suffixes():
            if self._picture is not None:
                raise InputError(
                    f"{self._shard}: expected one picture for each sample, found "
                    f"{self._picture.name} and {member.name}"
                )
            self._picture = _Member(number, member.name, member.offset_data, member.size)
        else:
            return False
        return True

    def _text(self, member: tarfile.TarInfo, file: BinaryIO) -> str:
        if member.size > LONGEST_LABEL:
            raise InputError(
                f"{self._shard}, {member.name}: expected a label of up to {LONGEST_LABEL:,} bytes, "
                f"found {member.size:,}"
            )
        file.seek(member.offset_data)
        try:
            text = file.read(member.size).decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._shard}, {member.name}: expected a label in UTF-8, found other bytes"
            ) from error
        if not text:
            raise InputError(f"{self._shard}, {member.name}: expected a label, found none")
        return text

    def whole(self) -> Iterator[tuple[_Member, str]]:
        """The sample, where there is one. Raises InputError where a part is missing."""
        if self._picture is None and self._label is None:
            return
        if self._picture is None or self._label is None:
            missing = "picture" if self._picture is None else f"label ({LABEL})"
            raise InputError(
                f"{self._shard}, {self._name}: expected a picture and its label in a {LABEL} file "
                f"of the same name beside it, found no {missing}"
            )
        yield self._picture, self._label
