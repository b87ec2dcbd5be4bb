"""Some of a source's pictures as a split of their own."""

import hashlib

import numpy as np

from pipeline.data.sources.base import Sample, Source, digest, files_of, unused_files
from pipeline.data.split import stratified

SEED = 0  # of the split: what is held out depends on the labels and the share alone


class Part:
    """The pictures of `source` at `indices`, int64 (samples,), as the split of that name."""

    def __init__(self, source: Source, split: str, indices: np.ndarray) -> None:
        self.name, self.split, self.classes = source.name, split, source.classes
        self.unused, self.files = unused_files(source), files_of(source)
        self._source, self._indices = source, indices

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


def held_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split range(len(labels)) into what is trained on and a class-stratified `share` to test on.

    Each class gives its share to within one sample, and keeps at least one to train on. Returns
    (train, test): int64, sorted, disjoint, together every sample; `test` is empty where no class
    has two samples. The same labels and share give the same split everywhere.
    """
    train, test = stratified(labels, share, SEED)
    # A class that would give all of its samples keeps the first of them.
    given, first = np.unique(labels[test], return_index=True)
    kept = test[first[~np.isin(given, labels[train])]]
    return np.union1d(train, kept), np.setdiff1d(test, kept)
