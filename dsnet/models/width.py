"""Width: how many channels each stage uses. RoutingSpace: the sub-networks of one supernet."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from dsnet.errors import InputError
from dsnet.models.architecture import Architecture

MOST_SUBNETWORKS = 4096  # each is a value in memory, and priced by itself


@dataclass(frozen=True)
class Width:
    """A sub-network, as a value: output channels of the stem, then of each stage."""

    channels: tuple[int, ...]


class RoutingSpace(Sequence[Width]):
    """The ordered sub-networks of a supernet, 0 the slimmest.

    The gates cut the network into segments. Segment 0, before the first gate, runs at its slimmest
    in every sub-network; segment g runs at the entry of the channel lists that gate g picks. So a
    sub-network is one entry per gate, ordered lexicographically; a network without gates has one
    sub-network per entry of its lists, the same entry everywhere.

    paths: for each sub-network, the entry that each gate picks.
    choices: for each gate, the entries that its slimming head may pick, one logit each.
    routes: the indices of the sub-networks that the gates may choose, none without gates.
    largest: the widest entry everywhere, segment 0 included.
    """

    def __init__(self, architecture: Architecture) -> None:
        rows = (architecture.stem, *architecture.stages)
        lists = [row.channels for row in rows]
        gates = architecture.gates
        # Segment of each row: the stem opens segment 0, every gated stage the next one.
        segments = list(itertools.accumulate(int(row.gated) for row in rows))
        self.options = _options(lists, segments, gated=bool(gates))
        self.choices = _choices(architecture.routes, self.options if gates else ())
        if (count := math.prod(self.options)) > MOST_SUBNETWORKS:
            raise InputError(
                f"gates may make up to {MOST_SUBNETWORKS:,} sub-networks together, found {count:,}"
            )
        self.paths = list(itertools.product(*(range(n) for n in self.options)))
        self._lists = lists

        def width(path: tuple[int, ...]) -> Width:
            entry = (0, *path) if gates else path
            return Width(tuple(lists[row][entry[s]] for row, s in enumerate(segments)))

        self._widths = [width(path) for path in self.paths]
        self._index = {path: index for index, path in enumerate(self.paths)}
        routable = itertools.product(*self.choices) if gates else ()
        self.routes = tuple(self._index[path] for path in routable)
        self.largest = Width(tuple(channels[-1] for channels in lists))

    def __len__(self) -> int:
        return len(self._widths)

    @overload
    def __getitem__(self, index: int) -> Width: ...
    @overload
    def __getitem__(self, index: slice) -> list[Width]: ...
    def __getitem__(self, index: int | slice) -> Width | list[Width]:
        return self._widths[index]

    def index_of(self, path: Sequence[int]) -> int:
        """The sub-network whose gates pick the entries `path`."""
        return self._index[tuple(path)]

    def along(self, path: Sequence[int]) -> Width:
        """The slimmest sub-network whose first gates pick the entries `path`.

        Every segment up to the next gate runs as in this one, whatever the gates behind it pick.
        """
        return self[self.index_of((*path, *(0,) * (len(self.options) - len(path))))]

    def resolve(self, width: "int | Width") -> Width:
        """A Width as it is, an index as its sub-network.

        A Width need not be a sub-network: any entry of each stage's channel list will do. Raises
        InputError for one that is not there.
        """
        if isinstance(width, Width):
            rows, found = self._lists, width.channels
            if len(found) != len(rows) or any(
                channels not in row for channels, row in zip(found, rows, strict=True)
            ):
                raise InputError(f"width must take one entry of each of {rows}, found {width}")
            return width
        if not 0 <= width < len(self):
            raise InputError(f"width must be 0 to {len(self) - 1} or a Width, found {width}")
        return self._widths[width]


def _options(lists: list[tuple[int, ...]], segments: list[int], gated: bool) -> tuple[int, ...]:
    """How many entries each gate (or, without gates, the whole network) has to choose from."""
    options: list[int] = []
    for segment in range(1 if gated else 0, segments[-1] + 1):
        lengths = {len(lists[row]) for row, s in enumerate(segments) if s == segment}
        if len(lengths) > 1:
            raise InputError(
                f"stages that share a width choice need channel lists of one length, "
                f"found lengths {sorted(lengths)}"
            )
        options += lengths
    return tuple(options)


def _choices(
    routes: tuple[tuple[int, ...], ...] | None, options: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    if routes is None:
        return tuple(tuple(range(n)) for n in options)
    if len(routes) != len(options):
        raise InputError(f"routes must be given for each of {len(options)} gates, found {routes}")
    for chosen, n in zip(routes, options, strict=True):
        if list(chosen) != sorted(set(chosen)) or not chosen or chosen[0] < 0 or chosen[-1] >= n:
            raise InputError(f"routes must rise strictly within 0 to {n - 1}, found {list(chosen)}")
    return routes
