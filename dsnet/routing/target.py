"""An efficiency target: the average multiply-adds wanted, as a fraction or as a count."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dsnet.errors import InputError
from dsnet.errors.text import shown

EXPECTED = "a fraction above 0 and up to 1 (0.5) or a count of multiply-adds (200M)"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([kmg]?)", re.IGNORECASE)
# No network worth routing is this cheap, so 50 is a slip for 50% rather than fifty multiply-adds.
_SMALLEST_COUNT = 1000
_LARGEST_COUNT = 10**15  # as a model directory may take for an image
_LONGEST = 100  # characters


@dataclass(frozen=True)
class Target:
    """A fraction of the widest routable sub-network's MAdds, or a count of them: exactly one."""

    fraction: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.count is None):
            raise ValueError("a target is either a fraction or a count")

    def madds(self, space_madds: Sequence[int]) -> float:
        """The target in multiply-adds per image.

        `space_madds`: MAdds of every routable sub-network. Raises InputError where the target lies
        outside what these can average to.
        """
        low, high = min(space_madds), max(space_madds)
        wanted = float(self.count) if self.count is not None else (self.fraction or 0.0) * high
        if not low <= wanted <= high:
            raise InputError(
                f"target {self}: expected {low:,} to {high:,} multiply-adds on average "
                f"({low / high:.3f} to 1), which is what this routing space can do, "
                f"found {wanted:,.0f}"
            )
        return wanted

    @property
    def scalar(self) -> float | str:
        """What to write in a configuration file: `0.5`, `200M`."""
        return self.fraction if self.fraction is not None else str(self)

    def __str__(self) -> str:
        if self.count is None:
            return repr(self.fraction)
        for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
            # Two decimals at most: 1.25G reads better than 1250M, 1.234567G does not.
            if self.count >= size and self.count % (size // 100) == 0:
                return f"{self.count / size:.2f}".rstrip("0").rstrip(".") + unit
        return str(self.count)


def parse_target(value: object) -> Target:
    """Read `0.5`, `"0.5"`, `"200M"`, `"1.2G"` or `200_000_000` (and a Target as itself).

    Raises InputError for anything else.
    """
    if isinstance(value, Target):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refusal(value)
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _refusal(value)
    if 0 < value <= 1:
        return Target(fraction=float(value))
    if _SMALLEST_COUNT <= value <= _LARGEST_COUNT and value == int(value):
        return Target(count=int(value))
    raise _refusal(value)


def _parse_text(text: str) -> Target:
    if len(text) > _LONGEST:
        raise _refusal(text)
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        try:
            # 5e-1 and 2e8, as Python and YAML write them.
            return parse_target(float(text))
        except (ValueError, InputError):
            raise _refusal(text) from None
    number, unit = match.groups()
    if not unit:
        try:
            return parse_target(float(number) if "." in number else int(number))
        except InputError:
            raise _refusal(text) from None
    count = round(float(number) * _UNITS[unit.lower()])
    if not _SMALLEST_COUNT <= count <= _LARGEST_COUNT:
        raise _refusal(text)
    return Target(count=count)


def _refusal(value: object) -> InputError:
    return InputError(f"expected {EXPECTED}, found {shown(value)}")
