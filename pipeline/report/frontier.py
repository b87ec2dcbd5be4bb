"""The points of a report, from routing tables: gates, and what they are compared with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsnet.routing import (
    Frontier,
    RoutingTable,
    frontier,
    oracle_errors,
    outcome,
    price_for_average,
)
from dsnet.tasks.measure import Measure
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
    held = outcome(holdout, holdout.paths.choose(holdout_logits, price))
    path = test.paths.choose(test_logits, price)
    return _row(
        GATE,
        label,
        test,
        path,
        **{
            "holdout": {"madds": held.madds, "loss": held.loss, **held.measures},
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
    low, high = float(test.paths.madds.min()), float(test.paths.madds[test.paths.widest])
    points: dict[tuple[float, ...], Row] = {}
    for target in np.linspace(low, high, _CURVE_POINTS):
        price = price_for_average(holdout_logits, holdout.paths, float(target))
        row = gate_row("", holdout, test, holdout_logits, test_logits, price)
        points.setdefault(row.routes, replace(row, kind=CURVE))
    return list(points.values())


def oracle_rows(test: RoutingTable) -> list[Row]:
    """The best that any gate could do: the corners of the line, to where more brings nothing."""
    line, headline = oracle_errors(test), test.task.headline
    values = [float(headline.of_error(error)) for error in line.values]
    return [
        Row(ORACLE, "", madds=float(madds), value=value, measures={headline.name: value})
        for madds, value in zip(line.madds, values, strict=True)
    ]


def best_static(results: Results) -> Frontier:
    """The error (`Measure.error`) that static widths, or mixtures of two, reach at each budget."""
    rows = results.of_kind(STATIC)
    return frontier(_errors(rows, results.headline)[None], np.array([row.madds for row in rows]))


def static_mixture(test: RoutingTable, madds: float) -> Tensor:
    """Shares of the paths, float64 (P,), of the static widths that do best with `madds` on average.

    One width or two neighbours on their lower hull: what `best_static` is the error of. Beyond the
    costliest that brings something, that one alone.
    """
    shares = torch.zeros(len(test.paths), dtype=torch.float64)
    direct = test.paths.direct
    costs = test.paths.madds[direct].double().numpy()
    errors = test.task.headline.error(test.headline.double()[:, direct].mean(0).numpy())
    where = corners(errors, costs)
    right = int(np.searchsorted(costs[where], madds))
    if right in (0, len(where)):
        shares[direct[where[min(right, len(where) - 1)]]] = 1
        return shares
    below, above = where[right - 1], where[right]
    share = (madds - costs[below]) / (costs[above] - costs[below])
    shares[direct[below]], shares[direct[above]] = 1 - share, share
    return shares


def corners(errors: np.ndarray, madds: np.ndarray) -> list[int]:
    """Which of the points (M,) are the corners of their lower hull, by rising multiply-adds."""
    best = np.argsort(errors, kind="stable")
    return [
        int(best[np.isclose(madds[best], corner, rtol=1e-9)][0])
        for corner in frontier(errors[None], madds).madds
    ]


def random_routing(results: Results, row: Row) -> float:
    """Expected value of random routing with a row's shares of routes."""
    static = [r.value or 0.0 for r in results.rows if r.kind == STATIC]
    return float(np.dot(row.routes, static))


def line_of(rows: Sequence[Row], headline: Measure) -> Frontier:
    """Error (`Measure.error`) along rows that lie on a line, by rising multiply-adds."""
    madds = np.array([row.madds for row in rows], np.float64)
    return Frontier(madds, _errors(rows, headline))


def _errors(rows: Sequence[Row], headline: Measure) -> np.ndarray:
    return np.array([headline.error(row.value or 0.0) for row in rows], np.float64)


def _row(kind: str, label: str, test: RoutingTable, path: Tensor, **other: Any) -> Row:
    result = outcome(test, path)
    values = test.headline.double()
    own = values.gather(1, path[:, None])[:, 0]
    by_chance = values[:, test.paths.direct] @ torch.tensor(result.shares, dtype=torch.float64)
    return Row(
        **{
            "kind": kind,
            "label": label,
            "madds": result.madds,
            "value": result.measures[test.task.headline.name],
            "value_stderr": _standard_error(own),
            "measures": result.measures,
            "loss": result.loss,
            "stderr": _standard_error(own - by_chance),
            "static_stderr": _standard_error(own - values @ static_mixture(test, result.madds)),
            "routes": result.shares,
            **other,
        }
    )


def _standard_error(values: Tensor) -> float:
    """Of the mean over images of values (N,)."""
    return float(values.std(correction=0) / len(values) ** 0.5)
