"""What an answer that looks at no image reaches: below that, nothing was learned."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.training.evaluation import standard_error

LEAST_GAIN = 0.1
"""Share of the way from chance to 100% that a gated classifier must have come to count as one that
has learned. With thousands of test images a point above chance is significant, and worth nothing.
"""
WHAT_TO_CHANGE = (
    "look at the pictures and labels (dsnet inspect), then try another supernet.lr "
    "or more supernet.epochs"
)
"""Advice for a training that does not learn."""


@dataclass(frozen=True)
class Chance:
    """What an answer that looks at no image reaches on a set of images."""

    share: float
    """One over the number of classes, or the share of the most frequent class among the images,
    whichever is larger."""
    images: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> "Chance":
        """Of images of which there are so many of each class."""
        images = sum(counts)
        return cls(max(1 / len(counts), max(counts) / images), images)

    @property
    def stderr(self) -> float:
        """Standard error of `share` over so many images."""
        return standard_error(self.share, self.images)

    @property
    def least(self) -> float:
        """Share of right answers below which a gated network has not learned: LEAST_GAIN."""
        return self.share + LEAST_GAIN * (1 - self.share)

    def at(self, right: float) -> bool:
        """Whether a share of right answers is at most two standard errors above chance."""
        return right <= self.share + 2 * self.stderr
