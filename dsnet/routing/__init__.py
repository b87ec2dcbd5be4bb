"""Routing tables: what every path would answer for every image, and what follows from that.

Names are imported when they are first used: `target` and `curve` work without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsnet.routing.choice import (
        Outcome,
        average_madds,
        outcome,
        price_for_average,
    )
    from dsnet.routing.oracle import Frontier, frontier, oracle_errors, oracle_losses, random_errors
    from dsnet.routing.table import MAX_PATHS, Paths, RoutingTable, build_rows, join, paths_of

__all__ = [
    "MAX_PATHS",
    "Frontier",
    "Outcome",
    "Paths",
    "RoutingTable",
    "average_madds",
    "build_rows",
    "frontier",
    "join",
    "oracle_errors",
    "oracle_losses",
    "outcome",
    "paths_of",
    "price_for_average",
    "random_errors",
]

_HOMES = {
    "Frontier": "oracle",
    "MAX_PATHS": "table",
    "Outcome": "choice",
    "Paths": "table",
    "RoutingTable": "table",
    "average_madds": "choice",
    "build_rows": "table",
    "frontier": "oracle",
    "join": "table",
    "oracle_errors": "oracle",
    "oracle_losses": "oracle",
    "outcome": "choice",
    "paths_of": "table",
    "price_for_average": "choice",
    "random_errors": "oracle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dsnet.routing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dsnet.routing.{_HOMES[name]}"), name)
