"""The digits in scikit-learn, for demonstrations and tests."""

import hashlib

import numpy as np

from pipeline.data.sources.base import Sample, Source, unknown_split
from pipeline.data.split import stratified

EXPECTED = "the word digits"


def opened(spec: str, split: str) -> Source | None:
    """The digits, where `spec` is the word."""
    return Digits(split) if spec == "digits" else None


class Digits:
    """scikit-learn's 1,797 scans of handwritten digits: 8x8, grey, in three equal channels.

    A fixed, class-stratified fifth (360) is "test", the rest (1,437) "train".
    """

    name = "digits"
    classes = tuple("0123456789")

    def __init__(self, split: str) -> None:
        from sklearn.datasets import load_digits  # slow to import, and only needed here

        if split not in ("train", "test"):
            raise unknown_split("digits", ("test", "train"), split)
        self.split = split
        scans, labels = load_digits(return_X_y=True)
        train, test = stratified(labels, 0.2, seed=0)
        self._chosen = train if split == "train" else test
        grey = np.rint(scans[self._chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        self._images = np.repeat(grey, 3, axis=3)
        self._labels = labels[self._chosen]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        path = f"digits[{self._chosen[index]}]"
        return Sample(self._images[index], int(self._labels[index]), path)

    def fingerprint(self) -> str:
        """A digest of pixels and labels."""
        return hashlib.sha256(self._images.tobytes() + self._labels.tobytes()).hexdigest()
