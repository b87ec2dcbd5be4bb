"""A plain cascade to compare gates with: one width and, where it is unsure, a second one.

Both run from the start, so an image that goes on costs both. Whoever has static widths
and no gate can do this much.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dsnet.routing import RoutingTable
from pipeline.report.frontier import corners
from pipeline.report.results import CASCADE, Row

_THRESHOLDS = 65


@dataclass(frozen=True)
class _Cascade:
    """Two routes, by position."""

    first: int
    second: int
    threshold: float
    """An image with less confidence than this goes on."""

    def on(self, table: RoutingTable) -> tuple[float, np.ndarray]:
        """Multiply-adds per image, and the headline of each image's answer (N,)."""
        direct = table.paths.direct
        assert table.confidences is not None
        goes_on = table.confidences[:, direct[self.first]].double() < self.threshold
        values = table.headline.double()[:, direct]
        madds = table.paths.madds[direct].double()
        answers = torch.where(goes_on, values[:, self.second], values[:, self.first])
        cost = madds[self.first] + goes_on.double().mean() * madds[self.second]
        return float(cost), answers.numpy()


def cascade_rows(holdout: RoutingTable, test: RoutingTable) -> list[Row]:
    """The best cascades of two widths, by rising cost: found on held-out images, judged on test.

    The corners of the lower hull over all pairs and thresholds. None where the task gives no
    confidence.
    """
    if holdout.confidences is None or test.confidences is None:
        return []
    headline, routes = test.task.headline, len(test.paths.direct)
    tried = [
        _Cascade(first, second, threshold)
        for first in range(routes)
        for second in range(first + 1, routes)
        for threshold in _thresholds(holdout, first)
    ]
    found = [cascade.on(holdout) for cascade in tried]
    madds = np.array([cost for cost, _ in found])
    errors = np.array([headline.error(float(answers.mean())) for _, answers in found])
    rows = []
    for cascade in (tried[index] for index in corners(errors, madds)):
        cost, answers = cascade.on(test)
        value = float(answers.mean())
        label = f"width {cascade.first}, then {cascade.second}"
        rows.append(Row(CASCADE, label, madds=cost, value=value, measures={headline.name: value}))
    return sorted(rows, key=lambda row: row.madds or 0.0)


def _thresholds(table: RoutingTable, route: int) -> list[float]:
    """From none going on to all but one share of the images, in equal shares."""
    assert table.confidences is not None
    sure = table.confidences[:, table.paths.direct[route]].double()
    shares = torch.linspace(0, 1, _THRESHOLDS, dtype=torch.float64)
    return sorted(set(torch.quantile(sure, shares).tolist()))
