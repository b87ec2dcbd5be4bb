"""A split's labels matched to another split's classes by name, never by position."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.data.sources.base import Sample, Source, files_of, unused_files


class Matched:
    """`source` with the labels of `classes`, among which are all of its own names, each once."""

    def __init__(self, source: Source, classes: Sequence[str]) -> None:
        self.name, self.split = source.name, source.split
        self.classes, self.unused = tuple(classes), unused_files(source)
        self.files = files_of(source)
        self._source = source
        self._label = [self.classes.index(name) for name in source.classes]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        # One that is no class of its own stays wrong, and is refused as such.
        known = 0 <= sample.label < len(self._label)
        return replace(sample, label=self._label[sample.label]) if known else sample

    def labels(self) -> np.ndarray:
        """int64 (samples,); one that is no class of the source's own stays as it is."""
        labels = self._source.labels()
        known = (labels >= 0) & (labels < len(self._label))
        return np.where(known, np.take(self._label, labels, mode="clip"), labels)

    def fingerprint(self) -> str:
        """The source's: the classes are part of what a beton is made from anyway."""
        return self._source.fingerprint()
