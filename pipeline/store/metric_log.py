"""Metrics of a run, sent by a background thread: complete, in order, once, also in an outage."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline.store.flatten import flatten
from pipeline.store.outage import is_permanent, reason, waits

logger = logging.getLogger(__name__)

_METRICS_PER_CALL = 1000  # MLflow's own limit


class MetricLog:
    """Sends metrics to one run from a thread, so that an outage does not hold up a training.

    While the store answers, `log` returns when the metrics have arrived. While it does not, they
    wait in memory, the newest 100,000, and follow when it does. The steps of a name rise: a step
    that it has already, or one before that, is not sent again, so that a training may tell again
    what it told before it was interrupted.

    run: the run's id, or what gets it from the store, and raises while that is away.
    """

    _patience = 2.0  # seconds that `log` waits for a slow store
    _kept = 100_000
    _longest_pause = 5.0  # seconds between attempts

    def __init__(self, uri: str, run: str | Callable[[], str]) -> None:
        self.uri = uri
        self._run = run
        self._pending: deque[Metric] = deque()
        self._last: dict[str, int] = {}  # the newest step of each name
        self._lost = 0
        self._failing = False
        self._warned_of: set[str] = set()
        self._change = threading.Condition()  # guards all of the above
        self._thread: threading.Thread | None = None

    def resume(self, last: Mapping[str, int], unsent: Sequence[Metric] = ()) -> None:
        """Go on in a run that has metrics. last: the newest step of each name there.

        unsent: what `give_up` gave when the run ended before.
        """
        newest = dict(last)
        with self._change:
            waiting, self._pending = [*unsent, *self._pending], deque()
            for metric in waiting:
                if metric.step > newest.get(metric.key, -1):
                    newest[metric.key] = metric.step
                    self._pending.append(metric)
            self._last = newest | {k: max(n, newest.get(k, n)) for k, n in self._last.items()}
            self._start()

    def give_up(self) -> list[Metric]:
        """Send nothing more; what has not reached the store."""
        with self._change:
            pending, self._pending = [*self._pending], deque()
            return pending

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Send nested metrics of `step`; NaN and infinities are left out, with one warning each."""
        values, dropped = flatten(metrics)
        if new := set(dropped) - self._warned_of:
            self._warned_of |= new
            logger.warning(
                "not finite at step %d and so not logged to MLflow: %s (said once)",
                step,
                ", ".join(sorted(new)),
            )
        now = int(time.time() * 1000)
        with self._change:
            for name, value in values.items():
                if name not in self._last or step > self._last[name]:
                    self._last[name] = step
                    self._pending.append(Metric(name, value, now, step))
            while len(self._pending) > self._kept:
                self._pending.popleft()
                self._lost += 1
            self._start()
            self._change.wait_for(lambda: self._failing or not self._pending, self._patience)

    def flush(self, timeout: float = 10.0) -> int:
        """Wait up to `timeout` seconds for what is pending; return how many metrics are missing."""
        with self._change:
            if self._pending and self._failing and timeout >= 1:
                logger.warning(
                    "%d metrics wait for MLflow, and the end of the run for them, up to %.0f s",
                    len(self._pending),
                    timeout,
                )
            started = time.monotonic()
            if self._pending and not self._change.wait_for(lambda: not self._pending, timeout):
                waits.add(time.monotonic() - started)
            missing = self._lost + len(self._pending)
        if missing:
            logger.warning("%d metrics of a run did not reach MLflow at %s", missing, self.uri)
        return missing

    def _start(self) -> None:
        if self._pending and self._thread is None:
            self._thread = threading.Thread(
                target=self._send_all, daemon=True, name="mlflow-metrics"
            )
            self._thread.start()

    def _send_all(self) -> None:
        """The thread: ends when nothing is pending."""
        pause = 0.5
        while True:
            error = self._send()
            with self._change:
                if not self._pending:
                    self._thread = None
                    self._change.notify_all()
                    return
            if error is not None:
                time.sleep(pause)
                pause = min(2 * pause, self._longest_pause)

    def _send(self) -> Exception | None:
        """Send what one call takes; returns the error if the store does not answer."""
        batch: list[Metric] = []
        error: Exception | None = None
        try:
            run = self._run if isinstance(self._run, str) else self._run()
            with self._change:
                batch = list(islice(self._pending, _METRICS_PER_CALL))
            if batch:
                MlflowClient(self.uri).log_batch(run, metrics=batch)
        except Exception as failure:
            error = failure
        with self._change:
            away = self._settle(batch, error)
            self._change.notify_all()
        return error if away else None

    def _settle(self, batch: list[Metric], error: Exception | None) -> bool:
        """Remove a batch that is done from the queue; returns whether the store does not answer."""
        if error is not None and (not batch or not is_permanent(error)):
            if not self._failing:
                logger.warning(
                    "MLflow does not take metrics, they are kept for later: %s", reason(error)
                )
            self._failing = True
            return True
        # By identity: while the batch was on its way, `log` may have dropped some of it.
        done = set(map(id, batch))
        while self._pending and id(self._pending[0]) in done:
            self._pending.popleft()
        if error is not None:
            self._lost += len(batch)
            logger.warning("MLflow refused %d metrics: %s", len(batch), reason(error))
        elif self._failing:
            logger.warning("MLflow takes metrics again")
        if error is None:
            waits.forget()
        self._failing = False
        return False
