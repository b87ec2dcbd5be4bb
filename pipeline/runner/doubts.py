"""What gives reason to doubt a result, for people."""

import logging
from collections.abc import Sequence

from dsnet import DSNet
from dsnet.routing.target import Target
from pipeline.training.evaluation import EvaluationRow
from pipeline.training.sanity import Point

logger = logging.getLogger(__name__)


def points(
    rows: Sequence[EvaluationRow], model: DSNet, target: Target | None
) -> tuple[list[Point], list[Point]]:
    """What rows of `model` say of its routable widths, and of the dynamic network."""
    wanted = None
    if target is not None:
        wanted = target.madds([model.madds(route) for route in model.space.routes])
    routable = [rows[route] for route in model.space.routes]
    dynamic = rows[len(model.space) :]
    return (
        [Point(row.name, row.value, row.stderr, row.madds) for row in routable],
        [Point(row.name, row.value, row.stderr, row.madds, wanted) for row in dynamic],
    )


def warn(sentences: Sequence[str]) -> None:
    """Each doubt about a result as a warning."""
    for sentence in sentences:
        logger.warning("%s", sentence)
