"""Sanity checks on a result: what would make its figures say less than they seem to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dsnet.routing import frontier
from dsnet.tasks.base import Task
from dsnet.tasks.measure import Measure
from pipeline.training.evaluation import standard_error

if TYPE_CHECKING:  # it brings every source of data
    from pipeline.data.dataset import Dataset

FEWEST_TEST_IMAGES = 300
LARGEST_IMBALANCE = 5
OFF_TARGET = 0.03
"""Share of a target by which an average on test images may differ from it."""
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


@dataclass(frozen=True)
class Labels:
    """How many images of each class there are, where classes are what is learned."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(cls, dataset: "Dataset", task: Task) -> "Labels | None":
        """Counted in the betons; None for a task that has no use for labels."""
        if not task.labelled:
            return None
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
    def chance(self) -> Chance:
        """What needs no learning, on the test images."""
        return Chance.of(self.test)


@dataclass(frozen=True)
class Point:
    """What a network reaches on the test images: one width for all of them, or each its own."""

    name: str
    value: float
    """Mean of the task's headline measure."""
    stderr: float
    """Standard error of `value`, over images."""
    madds: float
    """Multiply-adds per image, on average."""
    target: float | None = None
    """Multiply-adds per image that were asked for."""


def doubts(
    static: Sequence[Point],
    dynamic: Sequence[Point],
    headline: Measure,
    images: int,
    labels: Labels | None,
) -> list[str]:
    """A sentence for each kind of doubt that there is about a result; none for a sound one.

    static: the routable widths. dynamic: what was gated. headline: what their values are of.
    images: how many test images there are; labels: their classes, None for a task without.
    A dynamic network counts as below the static widths where its value is more than its own
    standard error worse than the hull of their points (MAdds, value), which is what the best
    mixture of two widths reaches at its average.
    """
    found = [_few_images(static, dynamic, headline, images)]
    if labels is not None:
        found.append(_imbalance(headline, labels))
    found += [_off_target(dynamic, images), _below_static(static, dynamic, headline)]
    if reason := not_learned(static, dynamic, headline, labels):
        found.append(f"it did not learn: {reason}")
    return [sentence for sentence in found if sentence is not None]


def not_learned(
    static: Sequence[Point], dynamic: Sequence[Point], headline: Measure, labels: Labels | None
) -> str | None:
    """Why the result is of a network that did not learn; None for one that did.

    A classifier did not learn where any of its routable widths (`static`) is at chance level, or
    what was gated (`dynamic`) has come less than LEAST_GAIN of the way from chance to 100%. Nobody
    should get such a network by an alias (`pipeline.runner.promotion`). None for a task without
    labels, too, where nothing says what needs no learning: it is compared with the champion alone.
    """
    if labels is None:
        return None
    chance = labels.chance
    level = [point for point in (*static, *dynamic) if chance.at(point.value)]
    low = [point for point in dynamic if point not in level and point.value < chance.least]
    found = []
    if level:
        found.append(
            f"{headline.title} is at chance level ({headline.text(chance.share)}, standard error "
            f"{chance.stderr:.2%}): {_values(level, headline)}"
        )
    if low:
        found.append(
            f"{headline.title} is below {headline.text(chance.least)}, {LEAST_GAIN:.0%} of the way "
            f"from chance to 100%: {_values(low, headline)}"
        )
    return "; ".join(found) or None


def _values(points: Sequence[Point], headline: Measure) -> str:
    return ", ".join(f"{point.name} {headline.text(point.value)}" for point in points)


def _few_images(
    static: Sequence[Point], dynamic: Sequence[Point], headline: Measure, images: int
) -> str | None:
    if images >= FEWEST_TEST_IMAGES:
        return None
    if headline.share:
        most = f"{standard_error(0.5, images):.1%}"
    else:
        most = headline.text(max(point.stderr for point in (*static, *dynamic)))
    return (
        f"{images} test images are few: the standard error of a {headline.title} is up to {most}; "
        f"{FEWEST_TEST_IMAGES} or more say more"
    )


def _imbalance(headline: Measure, labels: Labels) -> str | None:
    most, least = max(labels.train), min(labels.train)
    if most <= LARGEST_IMBALANCE * least:
        return None
    large, small = (labels.classes[labels.train.index(count)] for count in (most, least))
    return (
        f"training images are unbalanced, more than {LARGEST_IMBALANCE} to 1: {most:,} of class "
        f"{large}, {least:,} of class {small}; {headline.title} says little of rare classes"
    )


def _off_target(dynamic: Sequence[Point], images: int) -> str | None:
    off = [
        f"{point.name} by {point.madds / point.target - 1:+.1%}"
        for point in dynamic
        if point.target is not None and abs(point.madds / point.target - 1) > OFF_TARGET
    ]
    if not off:
        return None
    return (
        f"average multiply-adds miss their target by more than {OFF_TARGET:.0%} on "
        f"{images:,} test images: {', '.join(off)}"
    )


def _below_static(
    static: Sequence[Point], dynamic: Sequence[Point], headline: Measure
) -> str | None:
    madds = np.array([point.madds for point in static])
    hull = frontier(np.array([[headline.error(point.value) for point in static]]), madds)
    below = []
    for point in dynamic:
        # An average of the slimmest width's alone may lie a rounding below it.
        reached = hull.at(max(point.madds, float(madds.min())))
        if headline.error(point.value) > reached + point.stderr:
            ours, theirs = map(headline.text, (point.value, headline.of_error(reached)))
            below.append(f"{point.name} {ours} against {theirs}")
    if not below:
        return None
    return (
        "below what static widths, or a mixture of two, reach at the same average: "
        f"{', '.join(below)}"
    )
