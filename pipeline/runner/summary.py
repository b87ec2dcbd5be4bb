"""A line when a stage ends: how long it took, and what it came to."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from dsnet import DSNet
from dsnet.tasks.measure import Measure
from pipeline.cluster.progress import clock
from pipeline.stages import evaluate
from pipeline.training.evaluation import Evaluation
from pipeline.training.losses import Against

logger = logging.getLogger(__name__)


def log_summary(
    stage: str,
    metrics: Mapping[str, Any],
    seconds: float,
    model: DSNet,
    against: Against | None = None,
) -> None:
    """Say what `summary` does."""
    logger.info("%s", summary(stage, metrics, seconds, model.task.headline, against))


def summary(
    stage: str,
    metrics: Mapping[str, Any],
    seconds: float,
    headline: Measure,
    against: Against | None = None,
) -> str:
    """`supernet: done in 1:32, 24 epochs, loss 0.498 widest (labels), 0.512 slimmest (labels), …`

    against: what the losses of stage I are against. metrics: what the stage reported last, or what
    a gate by table reaches, by measure. What is not among them is left out.
    """
    parts = [f"done in {_took(seconds)}", *_work(metrics), *_losses(metrics, against or Against())]
    where = "test" if stage == evaluate.SPEC.name else "held-out"
    if figures := list(_figures(metrics, headline)):
        parts.append(f"{headline.title} {', '.join(figures)} on {where} images")
    if speed := metrics.get("throughput", {}).get("images_per_second"):
        parts.append(f"{speed:,.0f} images/s")
    return f"{stage}: {', '.join(parts)}"


def _took(seconds: float) -> str:
    """`1:32`, and of what is short `0.4 s`."""
    return clock(seconds) if seconds >= 9.95 else f"{seconds:.1f} s"


def _work(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, one, many in (("epoch", "epoch", "epochs"), ("step", "step", "steps")):
        if name in metrics:
            yield f"{metrics[name]:,} {one if metrics[name] == 1 else many}"


def _losses(metrics: Mapping[str, Any], against: Against) -> Iterator[str]:
    """Stage I has a loss for each width, stage II one."""
    losses = metrics.get("loss", {})
    if losses:
        yield against.in_words(losses)
    elif "loss" in (train := metrics.get("train", {})):
        yield f"loss {train['loss']:.3f}"


def _figures(metrics: Mapping[str, Any], headline: Measure) -> Iterator[str]:
    if "evaluation" not in metrics:
        if headline.name in metrics:
            yield f"{headline.text(metrics[headline.name])} dynamic"
        return
    counts = Evaluation.from_dict(metrics["evaluation"])
    static = counts.static.values[headline.name]
    yield f"{headline.text(static[0] / counts.images)} slimmest"
    yield f"{headline.text(static[-1] / counts.images)} widest"
    if any(counts.picked):
        (routed,) = counts.routed.values[headline.name]
        yield f"{headline.text(routed / counts.images)} dynamic"
