"""A sweep without a table: stage II straight through the network, once for each target."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray.train import TrainingFailedError

import dsnet
from dsnet import DSNet
from dsnet.errors import DivergenceError
from dsnet.routing.target import Target
from pipeline.report import GATE, STATIC, Images, Results, Row
from pipeline.runner.evaluate import counts, evaluate
from pipeline.runner.find_or_train import find_or_train
from pipeline.runner.promotion import settle
from pipeline.stages import gate
from pipeline.store import tracking
from pipeline.store.aliases import target_uri
from pipeline.store.registry import Version
from pipeline.sweep.request import SweepRequest, with_target
from pipeline.training.evaluation import EvaluationRow

logger = logging.getLogger(__name__)


def run(request: SweepRequest, started: float) -> tuple[Results, list[Version]]:
    """Train a gate for each target, register it, count on test images, give it its aliases.

    started: of the sweep, by `time.monotonic`. A gate that is registered already is not trained
    again. A target whose training fails is reported, and the others go on; RuntimeError if all
    fail. Without a table there is no oracle, no price curve and no image by image account.
    """
    rows: list[Row] = []
    versions: dict[Target, Version] = {}
    for target in request.targets:
        try:
            job = replace(request.job, config=with_target(request.job.config, target))
            version = evaluate(job, find_or_train(job, gate.STAGE, request.supernet))
        except (TrainingFailedError, DivergenceError) as error:
            logger.warning("target %s failed: %s", target, error)
            reason = str(error).strip().splitlines()[-1]
            rows.append(Row(GATE, f"target {target}", target=str(target), error=reason))
            continue
        model = dsnet.load(request.job.local(version))
        found = counts(version).rows(model)
        if not versions:
            rows += _static_rows(request, found)
        rows.append(_gate_row(request, target, version, model, found[-1]))
        versions[target] = version
    if not versions:
        raise RuntimeError(f"no target has a gate: {'; '.join(row.error or '' for row in rows)}")
    results = Results(request.about(time.monotonic() - started), tuple(rows), Images())
    unlearned = request.unlearned(results)
    # The middle target's first: where a name has no champion yet, it becomes it.
    middle = list(versions)[len(versions) // 2]
    for target in sorted(versions, key=lambda target: target != middle):
        versions[target] = settle(
            versions[target],
            [target],
            request.images,
            [unlearned[target]],
            request.job.config.promotion,
        )
    return results, list(versions.values())


def _static_rows(request: SweepRequest, found: Sequence[EvaluationRow]) -> list[Row]:
    """Every image at one width: a row for each route."""
    routes = list(request.model.space.routes)
    return [
        Row(
            STATIC,
            name,
            **_reached(found[route]),
            routes=tuple(float(other == route) for other in routes),
        )
        for name, route in zip(request.routes, routes, strict=True)
    ]


def _gate_row(
    request: SweepRequest, target: Target, version: Version, model: DSNet, dynamic: EvaluationRow
) -> Row:
    counted = counts(version)
    run = tracking.client().get_run(version.run_id).info
    return Row(
        GATE,
        f"target {target}",
        **_reached(dynamic),
        target=str(target),
        target_madds=target.madds(request.madds),
        routes=tuple(counted.picked[route] / counted.images for route in model.space.routes),
        price=model.metadata.price,
        seconds=(run.end_time - run.start_time) / 1000,
        chosen=True,
        uri=target_uri(version.name, target),
    )


def _reached(row: EvaluationRow) -> dict[str, Any]:
    """What was counted of a network, as fields of `Row`."""
    return {
        "madds": row.madds,
        "value": row.value,
        "value_stderr": row.stderr,
        "measures": row.measures,
    }
