"""What a source is, and what several of them need."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dsnet.errors import InputError
from dsnet.runtime.pictures import picture_bytes, read_picture
from pipeline.data.digest import file_state
from pipeline.data.sources.walk import listed, warn_of_unused

SPLIT_NAMES = frozenset(("train", "test", "val", "valid", "validation"))


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    image: bytes | np.ndarray
    """A picture file's bytes, or pixels: uint8 (H, W, 3), RGB."""
    label: int
    """Position in the source's classes."""
    path: str
    """Where the picture is, for messages."""

    def pixels(self, enough: int | None = None) -> np.ndarray:
        """uint8 (H, W, 3), RGB, decoded if need be. Raises InputError where it does not decode.

        enough: pixels of the shorter side that are, where a JPEG is too large to decode whole.
        """
        return (
            self.image
            if isinstance(self.image, np.ndarray)
            else read_picture(self.image, self.path, enough=enough)
        )


class Source(ABC):
    """Labelled pictures, by position. Reading from several threads at once is safe."""

    name: str
    split: str
    classes: tuple[str, ...]
    unused: Mapping[str, int] = MappingProxyType({})
    """Files that lie among the source's and are none of its pictures, by kind."""
    files: Sequence[str | Path] = ()
    """The files on this machine that it is read from; none where the fingerprint alone says whether
    they changed, as of what was fetched from a store."""
    tiles: Mapping[str, int] = MappingProxyType({})
    """Of a source of tiles `tile`, their side, and `pictures`, how many they are cut from."""
    lossless: bool = False
    """Whether its pixels are to be stored as they are."""
    _labels: np.ndarray
    """Every sample's, int64 (samples,), where a source knows them from the start."""

    def __len__(self) -> int:
        return len(self._labels)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def labels(self) -> np.ndarray:
        """Every sample's label, int64 (samples,), without reading a picture."""
        return self._labels

    def fingerprint(self) -> str:
        """A digest that changes when the pictures do: here of its files' names, sizes and times.

        Copies on several nodes have the same one; `last_changes` tells them apart.
        """
        return files_digest([Path(file) for file in self.files])

    def last_changes(self) -> list[int]:
        """When each of its files was last changed, in ns; see `FileState.changed`.

        Whoever copies, unpacks or checks out files sets their times of writing back, so that
        another picture of the same size and name passes for the one before it. This time nobody
        sets.
        """
        changes = []
        for path in self.files:
            try:
                changes.append(file_state(path).changed)
            except OSError:  # one that a list names: reading it says that it is missing
                changes.append(0)
        return changes

    def _leave(self, unused: Counter[str]) -> None:
        """Keep which files are not used, and warn of them."""
        warn_of_unused(self.name, unused)
        self.unused = dict(unused.most_common())


class Files(Source):
    """A source of picture files."""

    _paths: list[str]

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        return Sample(picture_bytes(path), int(self._labels[index]), path)


class UnknownSplit(InputError):
    """A split that a source does not have."""


def unknown_split(spec: str, available: Sequence[str], split: str) -> UnknownSplit:
    """A split that a source does not have, and those that it has."""
    return UnknownSplit(
        f"split {split!r} of source {spec}: expected one of {', '.join(available)}; found no such "
        "split"
    )


def refuse_other_split(spec: str, name: str, split: str) -> None:
    """Training and test pictures must never silently be the same ones."""
    own = sorted({"train"} | ({name} if name in SPLIT_NAMES else set()))
    if split not in own:
        raise unknown_split(spec, own, split)


def other_classes(first: Sequence[str], second: Sequence[str], here: str, there: str) -> str:
    """How two lists of classes, called `here` and `there`, differ, in words."""
    alone = [
        f"in {where} alone: {listed(sorted(names))}"
        for where, names in (
            (here, Counter(first) - Counter(second)),
            (there, Counter(second) - Counter(first)),
        )
        if names
    ]
    if alone:
        return "; ".join(alone)
    label = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return f"label {label} is {first[label]} in {here} and {second[label]} in {there}"


def digest(parts: Sequence[str]) -> str:
    """SHA-256 of several texts, hexadecimal."""
    # A path that is no UTF-8 has halves of characters for its other bytes.
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def tree_digest(folder: str, paths: Sequence[str]) -> str:
    """SHA-256 over the files' paths within a folder, sizes and modification times, hexadecimal."""
    parts = []
    for path in paths:
        status = os.stat(path)
        name = os.path.relpath(path, folder)
        parts += [name, str(status.st_size), str(status.st_mtime_ns)]
    return digest(parts)


def files_digest(paths: Sequence[Path]) -> str:
    """SHA-256 over the files' names, sizes and modification times, hexadecimal."""
    statuses = [(path.name, os.stat(path)) for path in paths]
    return digest([f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in statuses])
