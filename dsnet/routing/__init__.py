"""Routing tables: what every path would answer for every image, and what follows from that."""

from dsnet.routing.choice import (
    Outcome,
    average_madds,
    choose,
    gate_logits,
    log_probabilities,
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
    "choose",
    "frontier",
    "gate_logits",
    "join",
    "log_probabilities",
    "oracle_errors",
    "oracle_losses",
    "outcome",
    "paths_of",
    "price_for_average",
    "random_errors",
]
