"""The routing table: for each image, what its gates see and what every path would have answered.

In stage II everything but the slimming heads is frozen, so one pass of the shared parts and one of
each sliced tail gives all that training a gate will ever need: what was an expectation over sampled
widths becomes an exact sum over a row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.network import Branch, DSNet
from dsnet.nn.gate import make_head, pick
from dsnet.tasks.base import Task

MAX_PATHS = 64


@dataclass(frozen=True)
class Paths:
    """The joint choices of all gates, in the order of `DSNet.space.routes` (the last gate's varies
    fastest).

    Gate g's feature depends on what the gates before it chose, so the table holds it once for each
    of their `prefixes(g)` joint choices; a path's index // (what is left to choose) is its prefix.
    """

    routes: tuple[int, ...]
    """Per gate, how many widths it may choose."""
    madds: Tensor
    """Multiply-adds per image of each path, float64 (P,)."""
    costs: tuple[Tensor, ...]
    """Per gate, `DSNet.gate_costs`: float32 (routes,)."""
    prefix: int = 0
    """Multiply-adds of what comes before the first gate's choice."""

    def __len__(self) -> int:
        return len(self.madds)

    @property
    def widest(self) -> int:
        """The path that runs the widest of everything, and nothing else."""
        return len(self) - 1

    def prefixes(self, gate: int) -> int:
        """Joint choices of the gates before `gate`."""
        return math.prod(self.routes[:gate])

    def heads(
        self, features: Sequence[Tensor], hidden: int, generator: torch.Generator
    ) -> list[nn.Module]:
        """Untrained slimming heads for the features of a table."""
        return [
            make_head(each.shape[2], routes, hidden, generator)
            for each, routes in zip(features, self.routes, strict=True)
        ]

    def logits(self, heads: "Sequence[Head]", features: Sequence[Tensor]) -> list[Tensor]:
        """Per gate, its logits after each prefix: (N, prefixes, routes)."""
        return [head(each) for head, each in zip(heads, features, strict=True)]

    def log_probabilities(self, logits: Sequence[Tensor], price: Tensor | float) -> Tensor:
        """Log-probability of every path, (N, P), where each gate draws from its softmax."""
        joint = logits[0].new_zeros(len(logits[0]), 1)
        for gate, cost in zip(logits, self.costs, strict=True):
            each = (gate - cost * price).log_softmax(-1)
            # `joint` has a column for each prefix; each splits into the routes of this gate.
            joint = (joint[:, :, None] + each).flatten(1)
        return joint

    def choose(self, logits: Sequence[Tensor], price: float = 0.0) -> Tensor:
        """The path of each image, int64 (N,): argmax(logits - price * cost) at each gate in turn.

        The same decisions as `DSNet.route`.
        """
        path = pick(logits[0][:, 0] - self.costs[0] * price)
        for gate, cost in zip(logits[1:], self.costs[1:], strict=True):
            here = gate[torch.arange(len(path)), path]  # what this gate says after that prefix
            path = path * gate.shape[2] + pick(here - cost * price)
        return path

    def ends(self, path: Tensor) -> Tensor:
        """Which of the routes answers on each of these paths, as a position among them."""
        return path

    @property
    def direct(self) -> Tensor:
        """For each route the path that runs it and nothing else, int64 (routes,)."""
        return torch.arange(len(self))


Head = Callable[[Tensor], Tensor]
"""A slimming head: features (…, r) -> logits (…, routes)."""


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
    return Paths(routes, madds.double(), costs, model.prefix_madds())


@dataclass(frozen=True)
class RoutingTable:
    """N rows, one for each image and view."""

    task: Task
    paths: Paths
    features: tuple[Tensor, ...]
    """Per gate, its reduced feature after each prefix: float16 or float32 (N, prefixes, r)."""
    losses: Tensor
    """The task's loss of each path, float16 or float32 (N, P)."""
    measures: dict[str, Tensor]
    """By name, what the task measures of each path: bool (N, P) for a share, else float32."""
    confidences: Tensor | None
    """How sure each path is of its answer, float16 or float32 (N, P); None where the task does not
    tell."""
    labels: Tensor
    """Class labels, int64 (N,)."""
    samples: Tensor
    """The images' numbers in their data set, int64 (N,)."""
    views: Tensor
    """Which of its augmented versions each image is, int64 (N,)."""
    evidence: Tensor | None = None
    """What each path's answer says about itself (`Task.evidence`), float16 or float32 (N, P, E);
    None where the task has none, or the table was made without."""

    def __len__(self) -> int:
        return len(self.samples)

    @torch.no_grad()
    def logits(self, heads: "Sequence[Head]") -> list[Tensor]:
        """Per gate, the logits of its head after each prefix: float32 (N, prefixes, routes)."""
        return self.paths.logits(heads, [features.float() for features in self.features])

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
    losses, confidences, evidence = [], [], []
    look = task.evidence()
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
        if look is not None:
            evidence.append(look(outputs))

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
        evidence=torch.stack(evidence, 1) if evidence else None,
    )


def join(tables: Sequence[RoutingTable]) -> RoutingTable:
    """The rows of several tables of one network, in order."""
    first = tables[0]
    columns = ("losses", "labels", "samples", "views")
    sure = [table.confidences for table in tables if table.confidences is not None]
    told = [table.evidence for table in tables if table.evidence is not None]
    return RoutingTable(
        task=first.task,
        paths=first.paths,
        features=tuple(torch.cat(rows) for rows in zip(*(t.features for t in tables), strict=True)),
        measures={name: torch.cat([t.measures[name] for t in tables]) for name in first.measures},
        confidences=torch.cat(sure) if sure else None,
        evidence=torch.cat(told) if told else None,
        **{name: torch.cat([getattr(t, name) for t in tables]) for name in columns},
    )
