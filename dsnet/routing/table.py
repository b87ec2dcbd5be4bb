"""The routing table: for each image, what its gates see and what every path would have answered.

In stage II everything but the slimming heads is frozen, so one pass of the shared parts and one of
each sliced tail gives all that training a gate will ever need: what was an expectation over sampled
widths becomes an exact sum over a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnet.errors import InputError
from dsnet.models.network import Branch, DSNet
from dsnet.tasks import Task

MAX_PATHS = 64


@dataclass(frozen=True)
class Paths:
    """The joint choices of all gates, in the order of `DSNet.space.routes` (the last gate's varies
    fastest).

    Gate g's feature depends on what the gates before it chose, so the table holds it once for each
    of their `prefixes(g)` joint choices; a path's index // (what is left to choose) is its prefix.

    routes: per gate, how many widths it may choose.
    madds: multiply-adds per image of each path, float64 (P,).
    costs: per gate, `DSNet.gate_costs`: float32 (routes,).
    """

    routes: tuple[int, ...]
    madds: Tensor
    costs: tuple[Tensor, ...]

    def __len__(self) -> int:
        return math.prod(self.routes)

    def prefixes(self, gate: int) -> int:
        """Joint choices of the gates before `gate`."""
        return math.prod(self.routes[:gate])


def paths_of(model: DSNet) -> Paths:
    """The paths of a network. Raises InputError without gates or with more than 64 paths."""
    routes = tuple(len(entries) for entries in model.space.choices)
    if not routes:
        raise InputError(f"{model.architecture.name} has no gate to make a routing table for")
    if math.prod(routes) > MAX_PATHS:
        raise InputError(
            f"a routing table holds at most {MAX_PATHS} joint paths, {model.architecture.name} has "
            f"{math.prod(routes)} ({' x '.join(map(str, routes))}): restrict model.routes or set "
            "gate.method to straight_through"
        )
    madds = torch.tensor([model.madds(route) for route in model.space.routes])
    costs = tuple(cost.float().cpu() for cost in model.gate_costs())
    return Paths(routes, madds.double(), costs)


@dataclass(frozen=True)
class RoutingTable:
    """N rows, one for each image and view.

    features: per gate, its reduced feature after each prefix: float16 or float32 (N, prefixes, r).
    losses: the task's loss of each path, float16 or float32 (N, P).
    measures: by name, what the task measures of each path: bool (N, P) for a share, else float32.
    confidences: how sure each path is of its answer, float16 or float32 (N, P); None where the
        task does not tell.
    labels, samples, views: the class label, the image's number in its data set, and which of its
        augmented versions this is: int64 (N,).
    """

    task: Task
    paths: Paths
    features: tuple[Tensor, ...]
    losses: Tensor
    measures: dict[str, Tensor]
    confidences: Tensor | None
    labels: Tensor
    samples: Tensor
    views: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def headline(self) -> Tensor:
        """What networks are compared by, of each path: (N, P)."""
        return self.measures[self.task.headline.name]


@torch.no_grad()
def build_rows(
    model: DSNet,
    images: Tensor,
    targets: Tensor,
    samples: Tensor | None = None,
    view: int = 0,
    labels: Tensor | None = None,
) -> RoutingTable:
    """One batch's rows. The shared prefix runs once, every tail once, on slices.

    model: in eval mode. images: normalised float (N, 3, H, W); targets: its task's, for
    classification the labels, int64 (N,); samples: the images' numbers, int64 (N,), by default 0 to
    N - 1; labels: class labels where targets are none, by default 0. Everything comes as float32
    on the device of the images. Raises InputError as `paths_of`, and in training mode.
    """
    if model.training:
        raise InputError("a routing table is made in eval mode: call model.eval()")
    task, paths = model.task, paths_of(model)
    features: list[list[Tensor]] = [[] for _ in paths.routes]
    losses, confidences = [], []
    measures: dict[str, list[Tensor]] = {measure.name: [] for measure in task.measures}

    def every_route(path: tuple[int, ...], reduced: Tensor, rows: Tensor) -> list[Branch]:
        features[len(path)].append(reduced.float())
        return [(entry, None) for entry in model.space.choices[len(path)]]

    for width, last, _ in model.walk(images, every_route):
        outputs = model.answer(last, images, width).float()
        losses.append(task.loss(outputs, targets))
        for name, values in task.measure(outputs, targets).items():
            measures[name].append(values)
        if (sure := task.confidence(outputs)) is not None:
            confidences.append(sure)

    if labels is None:
        labels = targets if task.labelled else torch.zeros(len(images), dtype=torch.int64)
    return RoutingTable(
        task=task,
        paths=paths,
        features=tuple(torch.stack(rows, 1) for rows in features),
        losses=torch.stack(losses, 1),
        measures={name: torch.stack(values, 1) for name, values in measures.items()},
        confidences=torch.stack(confidences, 1) if confidences else None,
        labels=labels,
        samples=torch.arange(len(images)) if samples is None else samples,
        views=torch.full((len(images),), view),
    )


def join(tables: Sequence[RoutingTable]) -> RoutingTable:
    """The rows of several tables of one network, in order."""
    first = tables[0]
    columns = ("losses", "labels", "samples", "views")
    sure = [table.confidences for table in tables if table.confidences is not None]
    return RoutingTable(
        task=first.task,
        paths=first.paths,
        features=tuple(torch.cat(rows) for rows in zip(*(t.features for t in tables), strict=True)),
        measures={name: torch.cat([t.measures[name] for t in tables]) for name in first.measures},
        confidences=torch.cat(sure) if sure else None,
        **{name: torch.cat([getattr(t, name) for t in tables]) for name in columns},
    )
