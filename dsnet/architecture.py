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
        if self.channels[0] < 1 or self.blocks < 1 or self.stride < 1:
            raise InputError(f"stage channels, blocks and stride must be at least 1, found {self}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"stage kernel must be odd, found {self.kernel}")


@dataclass(frozen=True)
class Architecture:
    """A whole network: the stem, the stages, and which widths its gates may choose.

    family: which block the stages are built of (a key of `dsnet.families.FAMILIES`).
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
        if self.num_classes < 1:
            raise InputError(f"num_classes must be at least 1, found {self.num_classes}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), found {self.dropout}")

    @property
    def gates(self) -> tuple[int, ...]:
        """Indices of the gated stages, in the order they run."""
        return tuple(index for index, stage in enumerate(self.stages) if stage.gated)

    def with_routes(self, routes: Sequence[int] | Sequence[Sequence[int]] | None) -> "Architecture":
        """The same network with its gates restricted to `routes`.

        A flat sequence is the choice of every gate; a nested one gives each gate its own.
        """
        if routes is None:
            return replace(self, routes=None)
        rows = list(routes)
        if rows and isinstance(rows[0], int):
            rows = [rows] * len(self.gates)  # type: ignore[list-item]
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


def _stage(row: Mapping[str, Any]) -> Stage:
    return Stage(**{**row, "channels": tuple(row["channels"])})
