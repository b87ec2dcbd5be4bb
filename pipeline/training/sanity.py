"""Sanity checks on a result: what would make its figures say less than they seem to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsnet.routing import frontier
from pipeline.data.dataset import Dataset
from pipeline.training.evaluation import standard_error

FEWEST_TEST_IMAGES = 300
LARGEST_IMBALANCE = 5
OFF_TARGET = 0.03
"""Share of a target by which an average on test images may differ from it."""


@dataclass(frozen=True)
class Labels:
    """How many images of each class there are."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> "Labels":
        """Counted in the betons."""
        classes = dataset.train.classes
        train, test = (
            tuple(np.bincount(split.labels(), minlength=len(classes)).tolist())
            for split in (dataset.train, dataset.test)
        )
        return cls(classes, train, test)

    @property
    def test_images(self) -> int:
        """Number of test images."""
        return sum(self.test)

    @property
    def chance(self) -> float:
        """Top-1 of an answer that looks at no image.

        One over the number of classes, or the share of the most frequent class among the test
        images, whichever is larger.
        """
        return max(1 / len(self.classes), max(self.test) / self.test_images)

    def at_chance(self, top1: float) -> bool:
        """Whether `top1` is at most two standard errors above chance on these test images."""
        return top1 <= self.chance + 2 * standard_error(self.chance, self.test_images)


@dataclass(frozen=True)
class Point:
    """What a network reaches on the test images: one width for all of them, or each its own."""

    name: str
    top1: float
    """Share of images classified correctly."""
    madds: float
    """Multiply-adds per image, on average."""
    target: float | None = None
    """Multiply-adds per image that were asked for."""


def doubts(static: Sequence[Point], dynamic: Sequence[Point], labels: Labels) -> list[str]:
    """A sentence for each kind of doubt that there is about a result; none for a sound one.

    static: the routable widths. dynamic: what was gated. A dynamic network counts as below the
    static widths where its top-1 is more than its own standard error below the upper hull of their
    points (MAdds, top-1), which is what the best mixture of two widths reaches at its average.
    """
    found = [
        _few_images(labels),
        _imbalance(labels),
        _off_target(dynamic, labels),
        _below_static(static, dynamic, labels),
        _at_chance(static, dynamic, labels),
    ]
    return [sentence for sentence in found if sentence is not None]


def _few_images(labels: Labels) -> str | None:
    images = labels.test_images
    if images >= FEWEST_TEST_IMAGES:
        return None
    return (
        f"{images} test images are few: the standard error of a top-1 is up to "
        f"{standard_error(0.5, images):.1%}; {FEWEST_TEST_IMAGES} or more say more"
    )


def _imbalance(labels: Labels) -> str | None:
    most, least = max(labels.train), min(labels.train)
    if most <= LARGEST_IMBALANCE * least:
        return None
    large, small = (labels.classes[labels.train.index(count)] for count in (most, least))
    return (
        f"training images are unbalanced, more than {LARGEST_IMBALANCE} to 1: {most:,} of class "
        f"{large}, {least:,} of class {small}; top-1 says little of rare classes"
    )


def _off_target(dynamic: Sequence[Point], labels: Labels) -> str | None:
    off = [
        f"{point.name} by {point.madds / point.target - 1:+.1%}"
        for point in dynamic
        if point.target is not None and abs(point.madds / point.target - 1) > OFF_TARGET
    ]
    if not off:
        return None
    return (
        f"average multiply-adds miss their target by more than {OFF_TARGET:.0%} on "
        f"{labels.test_images:,} test images: {', '.join(off)}"
    )


def _below_static(static: Sequence[Point], dynamic: Sequence[Point], labels: Labels) -> str | None:
    madds = np.array([point.madds for point in static])
    hull = frontier(np.array([[1 - point.top1 for point in static]]), madds)
    below = []
    for point in dynamic:
        # An average of the slimmest width's alone may lie a rounding below it.
        reached = 1 - hull.at(max(point.madds, float(madds.min())))
        if point.top1 < reached - standard_error(point.top1, labels.test_images):
            below.append(f"{point.name} {point.top1:.2%} against {reached:.2%}")
    if not below:
        return None
    return (
        "below what static widths, or a mixture of two, reach at the same average: "
        f"{', '.join(below)}"
    )


def _at_chance(static: Sequence[Point], dynamic: Sequence[Point], labels: Labels) -> str | None:
    widest = max(static, key=lambda point: point.madds)
    low = [f"{p.name} {p.top1:.2%}" for p in (widest, *dynamic) if labels.at_chance(p.top1)]
    if not low:
        return None
    return (
        f"top-1 is at chance level: {', '.join(low)}, where an answer that looks at no image has "
        f"{labels.chance:.2%} (standard error "
        f"{standard_error(labels.chance, labels.test_images):.2%})"
    )
