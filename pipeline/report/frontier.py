"""The points of a report, from routing tables: gates, their price curve, what to hold them to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsnet.routing import (
    Frontier,
    RoutingTable,
    choose,
    frontier,
    oracle_errors,
    outcome,
    price_for_average,
)
from pipeline.report.results import CURVE, GATE, ORACLE, STATIC, Results, Row

_CURVE_POINTS = 41


def static_rows(test: RoutingTable, names: Sequence[str]) -> list[Row]:
    """Every image at one width: a row for each path."""
    return [
        _row(STATIC, name, test, torch.full((len(test),), path)) for path, name in enumerate(names)
    ]


def gate_row(
    label: str,
    holdout: RoutingTable,
    test: RoutingTable,
    holdout_logits: Sequence[Tensor],
    test_logits: Sequence[Tensor],
    price: float,
    **other: Any,
) -> Row:
    """One gate at one price. `other`: the fields of `Row` that say where it comes from."""
    held = outcome(holdout, choose(holdout_logits, holdout.paths, price))
    path = choose(test_logits, test.paths, price)
    return _row(
        GATE,
        label,
        test,
        path,
        **{
            "holdout_madds": held.madds,
            "holdout_top1": held.top1,
            "holdout_loss": held.loss,
            "price": price,
            **other,
        },
    )


def curve_rows(
    holdout: RoutingTable,
    test: RoutingTable,
    holdout_logits: Sequence[Tensor],
    test_logits: Sequence[Tensor],
) -> list[Row]:
    """One gate at prices over the whole range, set on held-out images, judged on test images."""
    low, high = float(test.paths.madds.min()), float(test.paths.madds.max())
    points: dict[tuple[float, ...], Row] = {}
    for target in np.linspace(low, high, _CURVE_POINTS):
        price = price_for_average(holdout_logits, holdout.paths, float(target))
        row = gate_row("", holdout, test, holdout_logits, test_logits, price)
        points.setdefault(row.routes, replace(row, kind=CURVE))
    return list(points.values())


def oracle_rows(test: RoutingTable) -> list[Row]:
    """The best that any gate could do: the corners of the line, to where more brings nothing."""
    line = oracle_errors(test)
    return [
        Row(ORACLE, "", madds=float(madds), top1=float(1 - error))
        for madds, error in zip(line.madds, line.values, strict=True)
    ]


def best_static(results: Results) -> Frontier:
    """The share of wrong answers that static widths, or mixtures of two, reach at each budget."""
    rows = results.of_kind(STATIC)
    errors = np.array([[1 - (row.top1 or 0.0) for row in rows]])
    return frontier(errors, np.array([row.madds for row in rows]))


def by_lot(results: Results, row: Row) -> float:
    """Top-1 expected of giving a row's shares of routes to images by lot: random routing."""
    static = [r.top1 or 0.0 for r in results.rows if r.kind == STATIC]
    return float(np.dot(row.routes, static))


def line_of(rows: Sequence[Row]) -> Frontier:
    """Share of wrong answers along rows that lie on a line, by rising multiply-adds."""
    return Frontier(
        np.array([row.madds for row in rows], np.float64),
        np.array([1 - (row.top1 or 0.0) for row in rows], np.float64),
    )


def _row(kind: str, label: str, test: RoutingTable, path: Tensor, **other: Any) -> Row:
    result = outcome(test, path)
    return Row(
        **{
            "kind": kind,
            "label": label,
            "madds": result.madds,
            "top1": result.top1,
            "top5": result.top5,
            "loss": result.loss,
            "stderr": _standard_error(test.top1, path, result.shares),
            "routes": result.shares,
            **other,
        }
    )


def _standard_error(top1: Tensor, path: Tensor, shares: Sequence[float]) -> float:
    """Of the mean over images of (right by its own route - right by a route drawn by lot)."""
    right = top1.double()
    by_chance = right @ torch.tensor(shares, dtype=torch.float64)
    difference = right.gather(1, path[:, None])[:, 0] - by_chance
    return float(difference.std(correction=0) / len(path) ** 0.5)
