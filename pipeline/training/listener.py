"""Where a stage's news goes on its driver: MLflow, the terminal, events, Prometheus."""

import logging
import time
from contextlib import ExitStack
from typing import Any, Self

from pipeline.cluster import events
from pipeline.cluster.metrics import StageMetrics
from pipeline.cluster.progress import Progress, unit_of
from pipeline.config import Config
from pipeline.store.tracking import Run
from pipeline.training.losses import Against
from pipeline.training.stage_queue import StageState

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_POINTS = 10.0


class Listener:
    """Of one stage: its reports go to MLflow, each once, its progress to the terminal.

    A running stage has a point in MLflow every ten seconds, over the steps done: figures so far
    under `running/`, what is in use of each node under `system/`, where MLflow looks for it.
    Prometheus' metrics are set at every call, or the stage would be taken for ended.
    """

    def __init__(self, stage: str, run: Run, config: Config) -> None:
        self._against = Against.of(config)
        self.reports = self.messages = 0
        """How many were heard."""
        self._stage, self._run = stage, run
        self._metrics = StageMetrics(config.name, stage)
        self._shown = ExitStack()
        self._progress: Progress | None = None
        self._point = 0.0  # when the last one was logged
        self._newest: dict[str, str] = {}  # figures of the last evaluation, in words

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.close()

    def hear(self, news: StageState) -> None:
        """Pass on what is new."""
        for metrics in news.reports:
            self._run.log(metrics, int(metrics.get("step", metrics.get("epoch", self.reports))))
            self.reports += 1
            events.tell("epoch", stage=self._stage, run_id=self._run.known_id, **_short(metrics))
        for message in news.messages:
            self.messages += 1
            events.tell("said", stage=self._stage, line=message.line)
            level = logging.WARNING if message.warning else logging.INFO
            logger.log(level, "%s: %s", self._stage, message.line)
            if message.newest is not None:
                what, value = message.newest
                self._newest = {what: f"{value},"}
        if news.progress is None:
            return
        done, total = news.progress
        measured, figures = news.figures
        if self._progress is None:
            self._progress = self._shown.enter_context(
                Progress(self._stage, total=total, unit=unit_of(self._stage))
            )
        self._progress.update(done, **self._newest, **self._against.named(figures))
        events.progress(self._stage, done, total, figures)
        self._metrics.record(self._run.known_id, news.progress, figures, news.usage)
        now = time.monotonic()
        if news.ended or now - self._point >= _SECONDS_BETWEEN_POINTS:
            self._point = now
            self._run.log({"running": figures}, measured)
            usage = {f"node_{node}": in_use for node, in_use in news.usage.items()}
            self._run.log({"system": usage}, done)


def _short(metrics: dict[str, Any]) -> dict[str, Any]:
    """A report without the counts of an evaluation, whose means it has too."""
    return {name: value for name, value in metrics.items() if name != "evaluation"}
