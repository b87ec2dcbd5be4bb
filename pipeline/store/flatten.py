"""Reported metrics as MLflow takes them: flat names, finite numbers."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_FORBIDDEN = re.compile(r"[^\w\-. /]", re.ASCII)
_LONGEST_NAME = 250


class Metrics(NamedTuple):
    """What is left of reported metrics, and what had to be left out."""

    values: dict[str, float]
    """Flat name to finite number."""
    dropped: tuple[str, ...]
    """Names of NaNs and infinities."""


def flatten(metrics: Mapping[str, Any]) -> Metrics:
    """Nested metrics as one level: `{"top1": {"largest": 0.9}, "loss": [1, 2]}` becomes
    `top1/largest`, `loss/0` and `loss/1`.

    Numbers of any kind count (NumPy's and one-element tensors too, booleans as 0 and 1); what is
    not a number is left out; NaN and infinities are dropped by name.
    """
    values: dict[str, float] = {}
    dropped: list[str] = []
    for name, number in _numbers(metrics, ""):
        name = _allowed(name)
        if math.isfinite(number):
            values[name] = number
        else:
            dropped.append(name)
    return Metrics(values, tuple(dropped))


def _allowed(name: str) -> str:
    """`name` as MLflow accepts it: its characters, no part that is empty or only dots."""
    parts = _FORBIDDEN.sub("_", name).split("/")
    name = "/".join(part if part.strip(".") else "_" for part in parts)
    return name if len(name) <= _LONGEST_NAME else "_" + name[1 - _LONGEST_NAME :]


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        number = _number(value)
        if number is not None:
            yield name, number
        return
    for key, item in items:
        yield from _numbers(item, f"{name}/{key}" if name else key)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        return None
