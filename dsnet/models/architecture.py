"""An architecture as data: what a table of stages says, checked once, kept in model.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from dsnet.errors import InputError


@dataclass(frozen=True)
class Stage:
    """One row of a family's table.

    channels: output channels of every width, slimmest first.
    blocks: how many blocks; the first one carries the stride.
    gated: whether a slimming head in the first block picks the width from there on.
    """

    channels: tuple[int, ...]
    blocks: int = 1
    stride: int = 1
    kernel: int = 3
    gated: bool = False

    def __post_init__(self) -> None:
        if not self.channels or list(self.channels) != sorted(set(self.channels)):
            raise InputError(f"stage channels must rise strictly, found {list(self.channels)}")
        _check_counts("stage", channels=self.channels[0], blocks=self.blocks, stride=self.stride)
        if not all(type(count) is int for count in self.channels):
            raise InputError(f"stage channels must be whole numbers, found {list(self.channels)}")
        if self.kernel < 1 or self.kernel % 2 != 1:
            raise InputError(f"stage kernel must be odd, found {self.kernel}")


@dataclass(frozen=True)
class Architecture:
    """A whole network: the stem, the stages, and which widths its gates may choose.

    family: which block the stages are built of (a key of `dsnet.models.registry.FAMILIES`).
    routes: per gate, the entries of the stage's channel list its slimming head may pick;
        None lets every gate pick any.
    stem_pool: whether a 3x3 max-pooling of stride 2 follows the stem.
    resolution: height and width of the images the table is made for, in pixels.
    """

    name: str
    family: str
    stem: Stage
    stages: tuple[Stage, ...]
    num_classes: int = 1000
    dropout: float = 0.0
    routes: tuple[tuple[int, ...], ...] | None = None
    stem_pool: bool = False
    resolution: int = 224

    def __post_init__(self) -> None:
        _check_counts("network", num_classes=self.num_classes, resolution=self.resolution)
        if not self.stages:
            raise InputError("a network needs at least one stage, found none")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), found {self.dropout}")

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
        """The inverse of `to_dict`. Raises InputError for a missing, unknown or mistyped field."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise InputError(
                f"architecture has unknown fields {unknown}; known are {sorted(known)}"
            )
        try:
            routes = data.get("routes")
            return cls(
                **{key: data[key] for key in data if key not in ("stem", "stages", "routes")},
                stem=_stage(data["stem"]),
                stages=tuple(_stage(row) for row in data["stages"]),
                routes=None if routes is None else tuple(tuple(row) for row in routes),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"architecture is not readable: {error}") from error


def _check_counts(what: str, **counts: int) -> None:
    for field, count in counts.items():
        if type(count) is not int or count < 1:
            raise InputError(f"{what} {field} must be a whole number of 1 or more, found {count!r}")


def _stage(row: Mapping[str, Any]) -> Stage:
    return Stage(**{**row, "channels": tuple(row["channels"])})
