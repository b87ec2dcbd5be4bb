"""The workers of a chain on Ray Train: started once, they stay and run one stage after another.

A Ray Train run for every stage would start processes and import PyTorch each time. Here one run
(`ray_run.py`) spans all of them: its workers take stages from a queue, until there are no more.
Should one be lost, Ray Train starts all again, and they go on with the stage that they find in the
queue, from its newest checkpoint.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ray import cloudpickle
from ray.train import TrainingFailedError

from dsnet.errors import DivergenceError
from dsnet.io.files import root_cause
from pipeline.cluster import ray_cluster, watch
from pipeline.cluster.shared_folders import check_shared
from pipeline.config import Config, data_dir, stage_dir, storage_dir
from pipeline.store.tracking import Run
from pipeline.training import checkpoint
from pipeline.training.evaluation import Evaluation
from pipeline.training.listener import Listener
from pipeline.training.ray_run import RayRun
from pipeline.training.ray_worker import Assignment
from pipeline.training.stage_queue import QueuedStage
from pipeline.training.worker import T, Worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """What a stage's loop left."""

    metrics: dict[str, Any]
    """What it reported last."""
    history: list[dict[str, Any]]
    """All that it reported, in order, also before it was interrupted."""
    directory: Path
    """The folder of the final checkpoint."""
    seconds: float
    """How long the workers took, from when all had started."""

    @property
    def evaluation(self) -> Evaluation:
        """What it counted at its end, where it reports that."""
        return Evaluation.from_dict(self.metrics["evaluation"])


class WorkerGroup:
    """Workers on Ray Train that stay from stage to stage.

        with WorkerGroup() as workers:
            result = workers.run("supernet", loop, inputs, config, fingerprint=key, run=run)

    The first stage that needs them starts them, as many and as large as its `cluster` section says,
    and with them joins or starts the Ray cluster. They hold its resources until the block ends, or
    `leave` is called.
    """

    def __init__(self) -> None:
        self._running: RayRun | None = None
        self._stages = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.leave()
        else:
            self._abort()

    def start(self, config: Config, max_failures: int | None = None) -> RayRun:
        """Start the workers, without waiting for them: what comes first can go on meanwhile.

        max_failures: how often Ray Train starts them again; by default as the config says. Raises
        InputError if the cluster can never hold them, or a node of it does not share the folders.
        """
        if self._running is not None and not self._running.fits(config.cluster):
            self.leave()
        if self._running is None:
            began = time.monotonic()
            ray_cluster.connect(config.cluster)
            betons = data_dir(config)
            check_shared(storage_dir(config), betons if isinstance(betons, Path) else None)
            limit = config.cluster.max_failures if max_failures is None else max_failures
            self._running = RayRun(config, limit, began)
        return self._running

    def leave(self) -> None:
        """Let the workers go, and with them what they hold of the cluster; `run` starts others."""
        if self._running is not None:
            running, self._running = self._running, None
            running.close()

    def run(
        self,
        stage: str,
        loop: Callable[[Worker, T], None],
        inputs: T,
        config: Config,
        *,
        fingerprint: str,
        run: Run,
    ) -> StageResult:
        """Run `loop` on every worker and wait for its end.

        inputs: what the loop reads besides the configuration, the same for every worker; pickled.
        The folder of its checkpoints is named after the stage's fingerprint: started again after a
        crash, the same stage goes on from its newest whole checkpoint. What it reports goes to the
        MLflow run `run`.
        Raises InputError or OutageError if a worker did, DivergenceError if the training came to
        nothing, and Ray Train's error for anything else.
        """
        folder = stage_dir(config, stage, fingerprint)
        self._stages += 1
        assignment = cloudpickle.dumps(Assignment(loop, inputs, config, folder))
        queued = QueuedStage(self._stages, stage, assignment)
        failures, allowed = 0, config.cluster.max_failures  # of this stage, whatever others did
        began, ended = 0.0, False
        with self._aborted_by_errors(stage), Listener(stage, run, config) as listener:
            while not ended:
                workers = self.start(config, allowed - failures if allowed >= 0 else allowed)
                try:
                    workers.wait()
                    began = began or time.monotonic()
                    ended = workers.run(queued, listener)
                except TrainingFailedError as error:
                    # Ray Train has started the workers again as often as it was allowed to.
                    attempts = workers.attempts()
                    self._abort()
                    failures += attempts
                    if attempts == 0 or failures > allowed >= 0:
                        raise root_cause(error) or error from None
                    continue
                if not ended:
                    logger.info("%s: a node is being taken away; going on without it", stage)
                    self.leave()
        return _result(stage, folder, time.monotonic() - began)

    @contextmanager
    def _aborted_by_errors(self, stage: str) -> Iterator[None]:
        """Within, an error ends the workers, unless it is one after which they can go on."""
        try:
            yield
        except DivergenceError as error:
            # Every worker has raised it, and all wait for the next stage.
            raise DivergenceError(
                f"stage {stage}: {error}; nothing of it is registered; lower the learning rate"
            ) from None
        except BaseException as error:
            self._abort()
            # Of a lost cluster Ray raises errors of any kind.
            if isinstance(error, Exception) and (lost := watch.gone()):
                raise lost from error
            raise

    def _abort(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.abort()


def _result(stage: str, run: Path, seconds: float) -> StageResult:
    """What the run's final checkpoint holds."""
    newest = checkpoint.newest_whole(run)
    if newest is None or not newest.report.final:
        found = f"{newest.folder.name}, which is not the last" if newest else "none"
        raise RuntimeError(
            f"stage {stage}: expected a whole final checkpoint in {run}, found {found}; run the "
            "command again, and it goes on from there"
        )
    report = newest.report
    return StageResult(report.metrics, report.history, newest.folder, seconds)
