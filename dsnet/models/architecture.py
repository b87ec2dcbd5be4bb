"""An architecture as data: what a table of stages says, checked once, kept in model.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from dsnet.errors import InputError
from dsnet.errors.checks import check_count, check_name, check_switch, check_whole
from dsnet.errors.text import line, shown

# Far beyond any network that one would train, and low enough to refuse everything else before it
# takes time or memory: an architecture may come from a file that anybody wrote.
MOST_CHANNELS = 2**16
MOST_WIDTHS = 256  # of a stage
MOST_STAGES = 64
MOST_BLOCKS = 512  # of all stages
MOST_KERNEL, MOST_STRIDE = 63, 64
MOST_CLASSES = 2**20
MOST_PIXELS = 2**13  # height and width of the images


@dataclass(frozen=True)
class Stage:
    """One row of a family's table: blocks with the same channels."""

    channels: tuple[int, ...]
    """Output channels of every width, slimmest first."""
    blocks: int = 1
    """How many blocks; the first one carries the stride."""
    stride: int = 1
    kernel: int = 3
    gated: bool = False
    """Whether a slimming head in the first block picks the width from there on."""

    def __post_init__(self) -> None:
        check_count("stage channels", self.channels, MOST_WIDTHS)
        for channels in self.channels:
            check_whole("stage channels", channels, MOST_CHANNELS)
        if not self.channels or list(self.channels) != sorted(set(self.channels)):
            raise InputError(f"stage channels must rise strictly, found {list(self.channels)}")
        check_whole("stage blocks", self.blocks, MOST_BLOCKS)
        check_whole("stage stride", self.stride, MOST_STRIDE)
        check_whole("stage kernel", self.kernel, MOST_KERNEL)
        if self.kernel % 2 != 1:
            raise InputError(f"stage kernel must be odd, found {self.kernel}")
        check_switch("stage gated", self.gated)


@dataclass(frozen=True)
class Architecture:
    """A whole network: the stem, the stages, and which widths its gates may choose."""

    name: str
    family: str
    """Which block the stages are built of (a key of `dsnet.models.registry.FAMILIES`)."""
    stem: Stage
    stages: tuple[Stage, ...]
    num_classes: int = 1000
    dropout: float = 0.0
    routes: tuple[tuple[int, ...], ...] | None = None
    """Per gate, the entries of the stage's channel list that its slimming head may pick; None lets
    every gate pick any."""
    stem_pool: bool = False
    """Whether a 3x3 max-pooling of stride 2 follows the stem."""
    resolution: int = 224
    """Height and width of the images the table is made for, in pixels."""

    def __post_init__(self) -> None:
        check_name("network name", self.name)
        check_name("network family", self.family)
        check_whole("network num_classes", self.num_classes, MOST_CLASSES)
        check_whole("network resolution", self.resolution, MOST_PIXELS)
        check_switch("network stem_pool", self.stem_pool)
        check_count("network stages", self.stages, MOST_STAGES)
        if not self.stages:
            raise InputError("a network needs at least one stage, found none")
        if (blocks := sum(stage.blocks for stage in self.stages)) > MOST_BLOCKS:
            raise InputError(f"a network may have up to {MOST_BLOCKS} blocks, found {blocks:,}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), found {shown(self.dropout)}")
        for entries in self.routes or ():
            check_count("network routes", entries, MOST_WIDTHS)
            if not all(type(entry) is int for entry in entries):
                raise InputError(f"network routes must be whole numbers, found {shown(entries)}")

    @property
    def gates(self) -> tuple[int, ...]:
        """Indices of the gated stages, in the order they run."""
        return tuple(index for index, stage in enumerate(self.stages) if stage.gated)

    def with_gates(self, gates: Sequence[int]) -> "Architecture":
        """The same network with a gate in the stages of these indices and nowhere else.

        Raises InputError for a stage that is not there. Routes are given anew afterwards.
        """
        count = len(self.stages)
        if list(gates) != sorted(set(gates)) or not set(gates) <= set(range(count)):
            raise InputError(
                f"gates must be rising indices of stages, 0 to {count - 1}, found {list(gates)}"
            )
        stages = (replace(stage, gated=i in gates) for i, stage in enumerate(self.stages))
        return replace(self, stages=tuple(stages), routes=None)

    def with_routes(self, routes: Sequence[int] | Sequence[Sequence[int]] | None) -> "Architecture":
        """The same network with its gates restricted to `routes`.

        A flat sequence is the choice of every gate; a nested one gives each gate its own. Raises
        InputError if there is no gate to restrict.
        """
        if routes is None:
            return replace(self, routes=None)
        if not self.gates:
            raise InputError(f"routes are for gates, and {self.name} has none: found {routes}")
        rows = list(routes)
        if rows and isinstance(rows[0], int):
            rows = [rows] * len(self.gates)
        return replace(self, routes=tuple(tuple(row) for row in rows))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Architecture":
        """The inverse of `to_dict`.

        Raises InputError for a field that is missing, unknown, mistyped or out of bounds.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise InputError(
                f"architecture has unknown fields {shown(unknown)}; known are {sorted(known)}"
            )
        try:
            routes = data.get("routes")
            for field, rows in (("stages", data["stages"]), ("routes", routes or ())):
                if len(rows) > MOST_STAGES:
                    check_count(f"network {field}", rows, MOST_STAGES)
            return cls(
                **{key: data[key] for key in data if key not in ("stem", "stages", "routes")},
                stem=_stage(data["stem"]),
                stages=tuple(_stage(row) for row in data["stages"]),
                routes=None if routes is None else tuple(tuple(row) for row in routes),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"architecture is not readable: {line(error)}") from error


def _stage(row: Mapping[str, Any]) -> Stage:
    return Stage(**{**row, "channels": tuple(row["channels"])})
