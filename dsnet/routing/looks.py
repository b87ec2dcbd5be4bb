"""The second look: what a tail concludes of an image decides whether a wider one runs too.

All tails start from one prefix, so a path is the set of tails that an image ran, from the gate's
choice on, each wider than the one before; the last one answers. It costs the prefix and all of
them. A routing table has what every tail concludes, so that such a path's loss, measures and cost
follow from it, and a gate with looks trains on the table as one without.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.network import DSNet
from dsnet.nn.gate import make_constant, make_head, pick
from dsnet.nn.look import forbid, going_on_costs
from dsnet.routing.table import Head, Paths, RoutingTable

Look = Literal["first", "second", "both"]
"""first: the gate in the middle alone. second: every image runs one and the same tail first, and
goes on from what that concludes. both: the gate picks the tail that runs first."""

MOST_ROUTES = 8  # each is in a path or not: 255 paths
HIDDEN = 16  # units of a look's head, where nobody asks for more


@dataclass(frozen=True)
class LookPaths(Paths):
    """The paths of one gate with looks: path p ran route r if bit r of p + 1 is set.

    Logits are those of the gate, (N, 1, routes), and of the looks, (N, routes, routes): row r is
    what the tail of route r concludes, column r is to stop there, column q > r to run route q too.
    `costs` are those of the gate's choices, (routes,), and of the looks', (routes, routes), both
    as fractions of the widest route's multiply-adds.
    """

    starts: tuple[int, ...] = ()
    """The routes that the gate may pick."""

    @property
    def widest(self) -> int:
        """The path that runs the widest tail, and no other."""
        return 2 ** (self.routes[0] - 1) - 1

    def heads(
        self, features: Sequence[Tensor], hidden: int, generator: torch.Generator
    ) -> list[nn.Module]:
        """The gate's head, and a head for the look after each route but the widest."""
        (count,) = self.routes
        reduced, evidence = (each.shape[2] for each in features)
        first = (
            make_constant(reduced, count, self.starts[0])
            if len(self.starts) == 1
            else make_head(reduced, count, hidden, generator)
        )
        looks = (make_head(evidence, count, hidden or HIDDEN, generator) for _ in range(count - 1))
        return [first, *looks]

    def logits(self, heads: Sequence[Head], features: Sequence[Tensor]) -> list[Tensor]:
        """The gate's, and those of all looks, with `NEVER` for what is slimmer."""
        first, evidence = features
        rows = [look(evidence[:, route]) for route, look in enumerate(heads[1:])]
        rows.append(torch.zeros_like(rows[0]))  # after the widest there is nothing to choose
        looks = [forbid(row, route) for route, row in enumerate(rows)]
        return [heads[0](first), torch.stack(looks, 1)]

    def log_probabilities(self, logits: Sequence[Tensor], price: Tensor | float) -> Tensor:
        """A path's is the sum over its choices: the first tail, each that follows, and to stop."""
        # Every choice that any path makes, side by side; the matrix picks and sums those of each
        # path, one product in place of a loop over 2^routes - 1 paths.
        choices = [
            (each - cost * price).log_softmax(-1)
            for each, cost in zip(logits, self.costs, strict=True)
        ]
        return torch.cat([each.flatten(1) for each in choices], 1) @ self._choices

    def choose(self, logits: Sequence[Tensor], price: float = 0.0) -> Tensor:
        """The path of each image, int64 (N,), as `DSNet.route` goes."""
        (count,) = self.routes
        at = pick(logits[0][:, 0] - self.costs[0] * price)
        following = pick(logits[1] - self.costs[1] * price)
        ran = 1 << at
        # At most count - 1 looks follow; who has stopped picks the same tail again, which changes
        # nothing.
        for _ in range(count - 1):
            at = following[torch.arange(len(at)), at]
            ran = ran | (1 << at)
        return ran - 1

    def ends(self, path: Tensor) -> Tensor:
        """The widest route of each path."""
        return _widest_of(path + 1, self.routes[0])

    @property
    def direct(self) -> Tensor:
        """For each route the path that runs it and nothing else, int64 (routes,)."""
        return (1 << torch.arange(self.routes[0])) - 1

    @cached_property  # training asks thousands of times
    def _choices(self) -> Tensor:
        """Which choices make which path: float32 (routes + routes², P), ones and zeros."""
        (count,) = self.routes
        made = torch.zeros(count + count**2, len(self))
        for path in range(len(self)):
            ran = [route for route in range(count) if path + 1 & 1 << route]
            made[ran[0], path] = 1  # the gate's choice; then each look's, the last of which stops
            for here, there in zip(ran, [*ran[1:], ran[-1]], strict=True):
                made[count + here * count + there, path] = 1
        return made


def check_looks(model: DSNet) -> None:
    """Raise InputError for a network that cannot look again.

    It has several gates or none, too few or too many routes, or a task whose answers tell nothing
    of themselves.
    """
    _check_routes([len(entries) for entries in model.space.choices])
    if model.task.evidence() is None:
        raise InputError(
            f"a second look decides by what an answer tells of itself, and those of "
            f"{model.task.name} tell nothing: set gate.look to first"
        )


def _check_routes(routes: Sequence[int]) -> None:
    if len(routes) != 1 or not 2 <= routes[0] <= MOST_ROUTES:
        raise InputError(
            f"a second look: expected one gate with 2 to {MOST_ROUTES} routes, found "
            f"{len(routes)} with {' and '.join(map(str, routes)) or 'none'}; restrict model.routes "
            "or set gate.look to first"
        )


def evidence_size(model: DSNet) -> int:
    """How many numbers the evidence of an answer has; 0 for a task without."""
    evidence = model.task.evidence()
    return 0 if evidence is None else evidence.size(model.architecture.num_classes)


def look_paths(paths: Paths, starts: Sequence[int] | None = None) -> LookPaths:
    """The paths of a network with one gate, where it looks again.

    starts: the routes that may run first, by position; None: all. Raises InputError for paths of
    several gates, or of too few or too many routes.
    """
    _check_routes(paths.routes)
    (count,) = paths.routes
    tails = (paths.madds - paths.prefix).tolist()
    madds = [
        paths.prefix + sum(tail for route, tail in enumerate(tails) if ran & 1 << route)
        for ran in range(1, 2**count)
    ]
    going = going_on_costs(tails, float(paths.madds.max()))
    return LookPaths(
        routes=paths.routes,
        madds=torch.tensor(madds).double(),
        costs=(*paths.costs, going),
        prefix=paths.prefix,
        starts=tuple(range(count) if starts is None else starts),
    )


def looking(table: RoutingTable, starts: Sequence[int] | None = None) -> RoutingTable:
    """The table of the same images where the network looks again; starts: see `look_paths`.

    Raises InputError for a table that was made without evidence, and as `look_paths`.
    """
    paths = look_paths(table.paths, starts)
    if table.evidence is None:
        raise InputError("a second look: expected a routing table with evidence, found one without")
    ends = paths.ends(torch.arange(len(paths)))
    return replace(
        table,
        paths=paths,
        features=(table.features[0], table.evidence),
        losses=table.losses[:, ends],
        measures={name: values[:, ends] for name, values in table.measures.items()},
        confidences=None if table.confidences is None else table.confidences[:, ends],
    )


def routed_by(table: RoutingTable, heads: Sequence[object]) -> RoutingTable:
    """The table as a network with these slimming heads takes it: with looks, if they have any."""
    return looking(table) if len(heads) > len(table.paths.routes) else table


def _widest_of(ran: Tensor, count: int) -> Tensor:
    """The highest bit that is set, of `count`."""
    return (ran[..., None] >> torch.arange(count) > 0).sum(-1) - 1
