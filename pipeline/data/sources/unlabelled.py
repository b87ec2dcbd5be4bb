"""A folder of pictures without labels, for tasks that learn none: all below it are one class."""

from pathlib import Path

import numpy as np

from dsnet.runtime.pictures import picture_bytes
from pipeline.data.sources.base import (
    SPLIT_NAMES,
    Sample,
    Source,
    digest,
    refuse_other_split,
    tree_digest,
    unknown_split,
)
from pipeline.data.walk import all_pictures

CLASSES: tuple[str, ...] = ("pictures",)
EXPECTED = "a folder"


def opened(spec: str, split: str) -> Source | None:
    """The pictures below a folder, or below its folder of the split, where `spec` is a folder."""
    path = Path(spec)
    if not path.is_dir():
        return None
    if (path / split).is_dir():
        return Pictures(path / split, split)
    splits = sorted(child.name for child in path.iterdir() if child.name in SPLIT_NAMES)
    if splits:
        raise unknown_split(spec, splits, split)
    refuse_other_split(spec, path.resolve().name, split)
    return Pictures(path, split)


class Pictures:
    """Every picture below a folder, in the order of their paths; see `all_pictures`."""

    classes = CLASSES

    def __init__(self, folder: Path, split: str) -> None:
        self.name, self.split = str(folder), split
        self._paths, self.unused = all_pictures(folder)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        return Sample(picture_bytes(path), 0, path)

    def labels(self) -> np.ndarray:
        """int64 (samples,), all 0."""
        return np.zeros(len(self), np.int64)

    def fingerprint(self) -> str:
        """A digest of every picture's path within the folder, size and modification time."""
        return digest(["unlabelled", tree_digest(self.name, self._paths)])
