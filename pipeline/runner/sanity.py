"""Checks of a result: what would make its figures say less than they seem to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsnet import DSNet
from dsnet.routing import frontier
from dsnet.routing.target import Target
from dsnet.tasks.base import Task
from dsnet.tasks.measure import Measure
from pipeline.data.dataset import Dataset
from pipeline.training.chance import LEAST_GAIN, Chance
from pipeline.training.evaluation import EvaluationRow, standard_error

FEWEST_TEST_IMAGES = 300
LARGEST_IMBALANCE = 5
OFF_TARGET = 0.03
"""Share of a target by which an average on test images may differ from it."""


@dataclass(frozen=True)
class Labels:
    """How many images of each class there are, where classes are what is learned."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset, task: Task) -> "Labels | None":
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


def points_of(
    rows: Sequence[EvaluationRow], model: DSNet, target: Target | None
) -> tuple[list[Point], list[Point]]:
    """The routable widths among the rows of an evaluation of `model`, and the dynamic network."""
    wanted = None
    if target is not None:
        wanted = target.madds([model.madds(route) for route in model.space.routes])
    routable = [rows[route] for route in model.space.routes]
    dynamic = rows[len(model.space) :]
    return (
        [Point(row.name, row.value, row.stderr, row.madds) for row in routable],
        [Point(row.name, row.value, row.stderr, row.madds, wanted) for row in dynamic],
    )


def warnings_of(
    static: Sequence[Point],
    dynamic: Sequence[Point],
    headline: Measure,
    images: int,
    labels: Labels | None,
) -> list[str]:
    """A sentence for each check that a result fails; none for a sound one.

    static: the routable widths. dynamic: the gated networks. headline: what their values are of.
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
    the gated network (`dynamic`) has come less than LEAST_GAIN of the way from chance to 100%. No
    alias is given to such a network (`pipeline.runner.promotion`). None for a task without
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
