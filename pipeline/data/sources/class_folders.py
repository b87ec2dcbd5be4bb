"""A folder with one folder of pictures per class, or one of these for each split."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.data.sources.base import (
    SPLIT_NAMES,
    Files,
    Source,
    refuse_other_split,
    tree_digest,
    unknown_split,
)
from pipeline.data.sources.class_names import checked
from pipeline.data.sources.walk import class_pictures, others_in

EXPECTED = "a folder"


def opened(spec: str, split: str) -> Source | None:
    """Class folders, or SPLIT/CLASS folders, where `spec` is a folder.

    A folder of class folders is one split: "train", or the one that it is named after.
    """
    folder = folder_of(spec, split)
    return None if folder is None else ClassFolders(folder, split, beside_splits(spec, folder))


def folder_of(spec: str, split: str) -> Path | None:
    """The folder of a split: one of that name in `spec`, or `spec`; None where that is no folder.

    Raises InputError where there is no such split.
    """
    path = Path(spec)
    if not path.is_dir():
        return None
    if (path / split).is_dir():
        return path / split
    splits = sorted(child.name for child in path.iterdir() if child.name in SPLIT_NAMES)
    if splits:
        raise unknown_split(spec, splits, split)
    refuse_other_split(spec, path.resolve().name, split)
    return path


def beside_splits(spec: str, folder: Path) -> Counter[str]:
    """What lies beside the folder of a split and is none of another, by kind."""
    return Counter() if folder == Path(spec) else others_in(Path(spec), SPLIT_NAMES)


class ClassFolders(Files):
    """A folder with one folder of pictures per class; classes in the order of their names.

    Which files and links count, see `class_pictures`.
    """

    def __init__(self, folder: Path, split: str, beside: Counter[str]) -> None:
        self.name, self.split = str(folder), split
        members, self.unused = class_pictures(folder, beside)
        self.classes = checked([*members], f"source {folder}")
        self.files = self._paths = [path for pictures in members.values() for path in pictures]
        counts = [len(pictures) for pictures in members.values()]
        self._labels = np.repeat(np.arange(len(members)), counts)

    def fingerprint(self) -> str:
        """A digest of every picture's path within the source, size and modification time."""
        return tree_digest(self.name, self._paths)
