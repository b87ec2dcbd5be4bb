"""From Ray Train's reports to an MLflow run."""

import logging
from typing import TYPE_CHECKING, Any

from ray.train import Checkpoint, UserCallback

if TYPE_CHECKING:
    from pipeline.store.tracking import MetricLog

logger = logging.getLogger(__name__)


class MLflowCallback(UserCallback):
    """Forwards what rank 0 reports to the run `run_id` of the store at `uri`.

    Runs on Ray Train's controller, wherever that is: it carries the address and the run's id, and
    MLflow there reads its credentials from the environment. The step is the report's `step`, else
    its `epoch`, else a count of reports. Never raises: an outage of the store costs metrics, not
    the training.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self._run = uri, run_id
        self._log: MetricLog | None = None
        self._reports = 0

    def after_report(
        self,
        run_context: Any,
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        """Send the report of rank 0."""
        try:
            if self._log is None:
                # Not before a report comes: MLflow's import would keep the workers from starting.
                from pipeline.store.tracking import MetricLog

                self._log = MetricLog(*self._run)
            report = metrics[0]
            step = report.get("step", report.get("epoch", self._reports))
            self._reports += 1
            self._log.log(report, int(step))
        except Exception:
            logger.warning("a report was not forwarded to MLflow", exc_info=True)
