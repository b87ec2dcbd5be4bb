"""What could be reached: the best any gate could do at each budget, and the best without looking.

Both are one question: choose a path for each row so that the mean value is as small as possible at
a given average of multiply-adds. On each row's lower convex hull the steps from cheap to dear bring
less and less per multiply-add, so taking the steps of all rows in the order of what they bring is
the best of all (a linear program, solved exactly at every step; between two steps one image is
split, which is what a random choice for that image does on average).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dsnet.routing.table import RoutingTable


@dataclass(frozen=True)
class Frontier:
    """The smallest mean value at each average of multiply-adds: a line, given by its corners."""

    madds: np.ndarray
    """Rising, multiply-adds per image, float64 (M,)."""
    values: np.ndarray
    """Falling, float64 (M,)."""

    def at(self, madds: float) -> float:
        """The smallest mean value with at most `madds` multiply-adds on average.

        Beyond the last point, more multiply-adds bring nothing; before the first none is possible,
        and the answer is NaN.
        """
        if madds < self.madds[0]:
            return float("nan")
        return float(np.interp(madds, self.madds, self.values))


def frontier(values: np.ndarray, madds: np.ndarray) -> Frontier:
    """values: what each row's paths are worth, lower is better, (N, P). madds: (P,)."""
    values = np.asarray(values, np.float64)
    madds = np.asarray(madds, np.float64)
    rows = np.arange(len(values))
    cheapest = madds == madds.min()
    here = np.where(cheapest, values, np.inf).argmin(1)
    start = madds.min(), values[rows, here].mean()
    more, gained = [], []
    while True:
        cost = madds - madds[here][:, None]
        gain = values[rows, here][:, None] - values
        useful = (cost > 0) & (gain > 0)
        rate = np.where(useful, gain / np.where(useful, cost, 1), 0)
        best = rate.max(1)
        moves = np.flatnonzero(best > 0)
        if not len(moves):
            break
        # Among equals the farthest, so that a hull has no point in the middle of an edge.
        equal = rate[moves] >= best[moves, None]
        there = np.where(equal, madds, -np.inf).argmax(1)
        more.append(cost[moves, there])
        gained.append(gain[moves, there])
        here[moves] = there
    if not more:
        return Frontier(np.array([start[0]]), np.array([start[1]]))
    steps, gains = np.concatenate(more), np.concatenate(gained)
    rates = gains / steps
    order = np.argsort(-rates, kind="stable")
    # Steps that bring equally much lie on one straight line: keep its ends.
    corners = np.append(np.flatnonzero(np.diff(rates[order])), len(order) - 1)
    return Frontier(
        np.append(start[0], start[0] + np.cumsum(steps[order])[corners] / len(values)),
        np.append(start[1], start[1] - np.cumsum(gains[order])[corners] / len(values)),
    )


def oracle_errors(table: RoutingTable) -> Frontier:
    """The smallest mean error (`Measure.error` of the headline) of any choice of paths.

    For a share, every image that any path serves costs one step to its cheapest such path, so each
    corner is reached by a choice of whole images, and there are no more corners than paths.
    """
    return frontier(_errors(table), _numpy(table.paths.madds))


def oracle_losses(table: RoutingTable) -> Frontier:
    """The smallest mean loss that any choice of paths reaches at each budget."""
    return frontier(_numpy(table.losses), _numpy(table.paths.madds))


def random_errors(table: RoutingTable) -> Frontier:
    """The smallest mean error of routing that does not look at the image.

    At each budget the best random mixture of paths: the lower hull of the static widths.
    """
    return frontier(_errors(table).mean(0, keepdims=True), _numpy(table.paths.madds))


def _errors(table: RoutingTable) -> np.ndarray:
    return table.task.headline.error(_numpy(table.headline))


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().numpy()
