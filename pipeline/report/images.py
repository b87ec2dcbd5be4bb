"""What the gates do with each test image: its routes, and a few pictures to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsnet.routing import RoutingTable
from pipeline.report.data_uri import picture_uri

EXAMPLES = 12
_BINS = 10

_Counts = tuple[tuple[int, ...], ...]
Crops = Callable[[np.ndarray, Tensor], list[dict[str, np.ndarray]]]
"""From image numbers (n,) and the path that each took at the middle target, int64 (n,), to what is
shown of each: pixels, uint8 (H, W, 3), by title."""


@dataclass(frozen=True)
class Picture:
    """One image, and the path it takes at each target."""

    uri: str
    """`data:image/…`."""
    label: str
    """Its class; empty where there are none."""
    routes: tuple[int, ...]
    right: tuple[bool, ...] = ()
    """At each target, whether it gets the headline, where that is a share."""
    values: tuple[str, ...] = ()
    """At each target the headline, for people, where it is no share."""
    crops: tuple[tuple[str, str], ...] = ()
    """Where answers are pictures: input, output and target, each a title and a `data:image/…`."""

    @property
    def caption(self) -> str:
        """Its class, else what it reaches at the first target and at the last."""
        ends = self.values[:1] + self.values[-1:]
        return self.label or " to ".join(dict.fromkeys(ends))


@dataclass(frozen=True)
class Images:
    """Routes of the test images at each chosen target."""

    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    """As they were asked for."""
    by_class: tuple[_Counts, ...] = ()
    """Images of each class on each path, (targets, classes, P); nothing without labels."""
    by_confidence: tuple[_Counts, ...] = ()
    """The same for ten equal groups of images, from those that the slimmest path is least sure of
    to those it is surest of; nothing where the task does not tell."""
    confidence: tuple[tuple[float, float], ...] = ()
    """The least and the greatest of each group."""
    easy: tuple[Picture, ...] = ()
    """The images that the gate would soonest send down the slimmest path."""
    hard: tuple[Picture, ...] = ()
    """The same for the widest."""


def hardness(table: RoutingTable, logits: Sequence[Tensor]) -> Tensor:
    """How much rather a gate ends at the widest route than at the slimmest alone, in logits: (N,).

    logits: the gate's on this table, as `RoutingTable.logits` gives them.
    """
    paths = table.paths
    joint = paths.log_probabilities(logits, 0.0)
    ends = paths.ends(torch.arange(len(paths)))
    return joint[:, ends == ends.max()].logsumexp(1) - joint[:, 0]


def image_rows(
    table: RoutingTable,
    classes: Sequence[str],
    targets: Sequence[str],
    choices: Sequence[Tensor],
    hardness: Tensor,
    pictures: Callable[[np.ndarray], np.ndarray],
    crops: Crops | None = None,
) -> Images:
    """What is shown of the test images.

    table: theirs, one row for each. classes: names, for a task that learns them. choices: for each
    target, the route of each image, int64 (N,). hardness: as `hardness` has it, to rank images by.
    pictures: from image numbers (n,) to their pixels, uint8 (n, H, W, 3). crops: for a task whose
    answers are pictures.
    """
    paths, task, headline = len(table.paths), table.task, table.task.headline

    def counted(keys: Tensor, rows: int) -> tuple[_Counts, ...]:
        counts = [
            torch.bincount(keys * paths + choice, minlength=rows * paths).reshape(rows, paths)
            for choice in choices
        ]
        return tuple(tuple(map(tuple, count.tolist())) for count in counts)

    def shown(rows: list[int]) -> tuple[Picture, ...]:
        samples = table.samples[rows].numpy()
        parts: list[dict[str, np.ndarray]] = [{} for _ in rows]
        if crops is not None:
            parts = crops(samples, choices[len(choices) // 2][rows])
        return tuple(
            picture(row, pixels, part)
            for row, pixels, part in zip(rows, pictures(samples), parts, strict=True)
        )

    def picture(row: int, pixels: np.ndarray, parts: dict[str, np.ndarray]) -> Picture:
        values = [table.headline[row, choice[row]].item() for choice in choices]
        return Picture(
            uri=picture_uri(pixels),
            label=classes[int(table.labels[row])] if task.labelled else "",
            routes=tuple(int(choice[row]) for choice in choices),
            right=tuple(map(bool, values)) if headline.share else (),
            values=() if headline.share else tuple(map(headline.text, values)),
            crops=tuple((title, picture_uri(part, exact=True)) for title, part in parts.items()),
        )

    def first(order: Tensor) -> list[int]:
        if task.labelled:
            return _first_of_classes(order, table.labels)
        rows: list[int] = order[: EXAMPLES if crops is None else EXAMPLES // 2].tolist()
        return rows

    group_of, ranges = _groups(table.confidences)
    return Images(
        classes=tuple(classes) if task.labelled else (),
        targets=tuple(targets),
        by_class=counted(table.labels, len(classes)) if task.labelled else (),
        by_confidence=counted(group_of, len(ranges)) if ranges else (),
        confidence=ranges,
        easy=shown(first(hardness.argsort())),
        hard=shown(first(hardness.argsort(descending=True))),
    )


def _groups(confidences: Tensor | None) -> tuple[Tensor, tuple[tuple[float, float], ...]]:
    """Ten equal groups of images by the slimmest path's confidence, the least sure first.

    Returns the group of each image, int64 (N,), and the least and the greatest of each group; none
    where the task does not tell.
    """
    if confidences is None:
        return torch.empty(0, dtype=torch.int64), ()
    sure = confidences[:, 0].float()
    groups = [group for group in sure.argsort().tensor_split(_BINS) if len(group)]
    group_of = torch.empty(len(sure), dtype=torch.int64)
    for index, group in enumerate(groups):
        group_of[group] = index
    ranges = [(float(sure[group].min()), float(sure[group].max())) for group in groups]
    return group_of, tuple(ranges)


def _first_of_classes(order: Tensor, labels: Tensor) -> list[int]:
    """The first rows of an order, at most one of each class: twelve zeros would say little."""
    rows: list[int] = []
    seen: set[int] = set()
    for row in order.tolist():
        label = int(labels[row])
        if label not in seen:
            seen.add(label)
            rows.append(row)
        if len(rows) == EXAMPLES:
            break
    return rows
