"""A source's pictures as another source: some of them, or with the labels of another split."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.data.sources.base import Sample, Source, digest


class Derived(Source):
    """Made of another source, and like it but for what a subclass says."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.split, self.classes = source.name, source.split, source.classes
        self.unused, self.files = dict(source.unused), source.files

    def __len__(self) -> int:
        return len(self._source)

    def labels(self) -> np.ndarray:
        """int64 (samples,)."""
        return self._source.labels()

    def fingerprint(self) -> str:
        """The source's."""
        return self._source.fingerprint()


class Subset(Derived):
    """The pictures of `source` at `indices`, int64 (samples,), as the split of that name."""

    def __init__(self, source: Source, split: str, indices: np.ndarray) -> None:
        super().__init__(source)
        self.split, self._indices = split, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[int(self._indices[index])]

    def labels(self) -> np.ndarray:
        """int64 (samples,)."""
        labels: np.ndarray = self._source.labels()[self._indices]
        return labels

    def fingerprint(self) -> str:
        """A digest of the source's, and of which pictures these are."""
        chosen = hashlib.sha256(self._indices.astype("<i8").tobytes()).hexdigest()
        return digest([self._source.fingerprint(), "part", chosen])


class Relabeled(Derived):
    """`source` with the labels of `classes`, by name and never by position.

    classes: all of the source's are among them, each once. The fingerprint stays the source's:
    what a beton is made from names the classes in any case.
    """

    def __init__(self, source: Source, classes: Sequence[str]) -> None:
        super().__init__(source)
        self.classes = tuple(classes)
        self._label = [self.classes.index(name) for name in source.classes]

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        # A label that is none of the source's classes stays wrong, and ingest refuses it as such.
        known = 0 <= sample.label < len(self._label)
        return replace(sample, label=self._label[sample.label]) if known else sample

    def labels(self) -> np.ndarray:
        """int64 (samples,); one that is no class of the source's own stays as it is."""
        labels = self._source.labels()
        known = (labels >= 0) & (labels < len(self._label))
        return np.where(known, np.take(self._label, labels, mode="clip"), labels)
