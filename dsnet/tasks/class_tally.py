"""A classifier's answers, counted: what it takes for what, how right its confidence is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dsnet.tasks.base import Tally

BINS = 15  # of confidence, equally wide: as many as Guo et al. (2017) take


class ClassTally(Tally):
    """Over the answers that `add` has counted, of K classes.

    confusion: int64 (K, K), how many images of a class (row) were taken for a class (column).
    images, right, sure: of each bin of confidence, (BINS,): how many images, int64, how many of
    them right, int64, and the sum of their confidences, float64.
    """

    def __init__(self, classes: int):
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.images = torch.zeros(BINS, dtype=torch.int64)
        self.right = torch.zeros(BINS, dtype=torch.int64)
        self.sure = torch.zeros(BINS, dtype=torch.float64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Logits (N, K) and labels, int64 (N,)."""
        highest = outputs.detach().double().softmax(1).max(1)
        confidence, answers, targets = highest.values.cpu(), highest.indices.cpu(), targets.cpu()
        cells = targets * len(self.confusion) + answers
        # Not a bincount, which would be as large as the matrix for every batch.
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        bins = (confidence * BINS).long().clamp(max=BINS - 1)
        self.images += torch.bincount(bins, minlength=BINS)
        self.right += torch.bincount(bins[answers == targets], minlength=BINS)
        self.sure += torch.bincount(bins, weights=confidence, minlength=BINS)

    def sums(self) -> list[Tensor]:
        return [self.confusion, self.images, self.right, self.sure]

    def accuracy(self) -> Tensor:
        """Of each class the share of its images that is right, float64 (K,); NaN without images."""
        return self.confusion.diagonal().double() / self.confusion.sum(1)

    def calibration_error(self) -> float:
        """The expected calibration error: over the bins, weighted by images, the distance between
        the share that is right and the mean confidence (Guo et al., On Calibration of Modern Neural
        Networks, 2017, equation 3).
        """
        return float((self.right - self.sure).abs().sum() / self.images.sum())

    def figures(self, classes: Sequence[str]) -> dict[str, Any]:
        """Calibration error and bins, accuracy by class, the confusion matrix by rows of labels.

        A class without images has no accuracy (None), nor an empty bin a confidence.
        """
        names = [*classes, *map(str, range(len(classes), len(self.confusion)))]
        shares = (self.right / self.images).tolist()
        means = (self.sure / self.images).tolist()
        return {
            "calibration_error": self.calibration_error(),
            "calibration": [
                {"images": n, "right": share, "confidence": mean}
                if n
                else {"images": 0, "right": None, "confidence": None}
                for n, share, mean in zip(self.images.tolist(), shares, means, strict=True)
            ],
            "accuracy_by_class": {
                name: value if value == value else None
                for name, value in zip(names, self.accuracy().tolist(), strict=True)
            },
            "confusion": self.confusion.tolist(),
        }
