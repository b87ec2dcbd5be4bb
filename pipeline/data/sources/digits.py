"""The digits in scikit-learn, for demonstrations and tests."""

from functools import cached_property
from importlib.metadata import version

import numpy as np

from pipeline.data.sources.base import Sample, Source, digest, unknown_split
from pipeline.data.split import stratified

EXPECTED = "the word digits"


def opened(spec: str, split: str) -> Source | None:
    """The digits, where `spec` is the word."""
    return Digits(split) if spec == "digits" else None


class Digits(Source):
    """scikit-learn's 1,797 scans of handwritten digits: 8x8, grey, in three equal channels.

    A fixed, class-stratified fifth (360) is "test", the rest (1,437) "train".
    """

    name = "digits"
    classes = tuple("0123456789")

    def __init__(self, split: str) -> None:
        if split not in ("train", "test"):
            raise unknown_split("digits", ("test", "train"), split)
        self.split = split

    @cached_property
    def _scans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in the whole, images and labels."""
        from sklearn.datasets import load_digits  # two seconds, for who reads the pictures alone

        scans, labels = load_digits(return_X_y=True)
        train, test = stratified(labels, 0.2, seed=0)
        chosen = train if self.split == "train" else test
        grey = np.rint(scans[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return chosen, np.repeat(grey, 3, axis=3), labels[chosen]

    def __len__(self) -> int:
        return len(self._scans[0])

    def __getitem__(self, index: int) -> Sample:
        chosen, images, labels = self._scans
        return Sample(images[index], int(labels[index]), f"digits[{chosen[index]}]")

    def labels(self) -> np.ndarray:
        """int64 (samples,)."""
        return self._scans[2].astype(np.int64)

    def fingerprint(self) -> str:
        """A digest of which they are: they come with scikit-learn, and change with it alone."""
        return digest([self.name, self.split, version("scikit-learn")])
