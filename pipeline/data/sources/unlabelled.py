"""Pictures without labels, for tasks that learn none: a folder of them, or Parquet files."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.data.sources.base import Files, Source, digest, tree_digest
from pipeline.data.sources.class_folders import beside_splits, folder_of
from pipeline.data.sources.parquet import ParquetFiles
from pipeline.data.sources.shards import found
from pipeline.data.sources.walk import all_pictures

CLASSES: tuple[str, ...] = ("pictures",)
EXPECTED = "a folder, a .parquet file"


def opened(spec: str, split: str) -> Source | None:
    """The pictures below a folder, or below its folder of the split, or in Parquet files.

    Of Parquet files, which are a split's as with labels, a column `label` is not read.
    """
    if paths := found(spec, ".parquet", split):
        return ParquetFiles(spec, paths, split, CLASSES)
    folder = folder_of(spec, split)
    return None if folder is None else Pictures(folder, split, beside_splits(spec, folder))


class Pictures(Files):
    """Every picture below a folder, in the order of their paths; see `all_pictures`."""

    classes = CLASSES

    def __init__(self, folder: Path, split: str, beside: Counter[str]) -> None:
        self.name, self.split = str(folder), split
        self._paths, self.unused = all_pictures(folder, beside)
        self.files = self._paths
        self._labels = np.zeros(len(self._paths), np.int64)

    def fingerprint(self) -> str:
        """A digest of every picture's path within the folder, size and modification time."""
        return digest(["unlabelled", tree_digest(self.name, self._paths)])
