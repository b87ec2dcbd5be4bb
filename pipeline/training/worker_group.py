"""The workers of a chain on Ray Train: started once, they stay and run one stage after another.

A Ray Train run of its own for every stage would start processes and import PyTorch each time, which
took three quarters of a short chain. Here one run spans all of them: what its workers run takes
stages from a queue, until there is none more. Should one be lost, Ray Train starts all again, and
they go on with the stage that they find in the queue, from its newest checkpoint.
"""

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray import cloudpickle
from ray.train import TrainingFailedError

# Ray Train V2's own modules: type checkers see the first version's under ray.train.
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dsnet.errors import DivergenceError
from dsnet.io.files import root_cause
from pipeline.cluster import events, ray_cluster, ray_private, watch
from pipeline.cluster.metrics import StageMetrics
from pipeline.cluster.progress import Progress, clock, unit_of
from pipeline.cluster.shared_folders import check_shared
from pipeline.config import Cluster, Config, data_dir, stage_dir, storage_dir
from pipeline.store.tracking import Run
from pipeline.training import checkpoint
from pipeline.training.losses import Against
from pipeline.training.process_group import ProcessGroup
from pipeline.training.stage_queue import News, StageQueue, Task
from pipeline.training.worker import T, Work, Worker, stay

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_RESIZES = 60.0
"""How often Ray Train looks whether there is room for more elastic workers: to take them in costs
a start of all."""

_LEAVE_S = 15.0
_PATIENCE_S = 45.0
_SECONDS_BETWEEN_POINTS = 10.0


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
    """How long the workers were at it, once they were there."""


class WorkerGroup:
    """Workers on Ray Train that stay from stage to stage.

        with WorkerGroup() as workers:
            result = workers.run("supernet", loop, inputs, config, fingerprint=key, run=run)

    They are started by the first stage that needs them, as many and as large as its `cluster`
    section says, and joined or started with them is the Ray cluster. They hold its resources until
    the block ends, or `leave` is called.
    """

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._tasks = 0

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

    def start(self, config: Config, max_failures: int | None = None) -> None:
        """Start the workers, without waiting for them: what comes first can go on meanwhile.

        max_failures: how often Ray Train starts them anew; by default as the config says. Raises
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
            self._running = _Running(config, limit, began)

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

        inputs: what the loop reads beside the configuration, the same for every worker; pickled.
        The folder of its checkpoints is named after the stage's fingerprint: started again after a
        crash, the same stage goes on from its newest whole checkpoint. What it reports goes to the
        MLflow run `run`.
        Raises InputError or OutageError if a worker did, DivergenceError if the training came to
        nothing, and Ray Train's error for anything else.
        """
        folder = stage_dir(config, stage, fingerprint)
        self._tasks += 1
        work = cloudpickle.dumps(Work(loop, inputs, config, folder))
        try:
            with ExitStack() as ending:
                metrics = StageMetrics(config.name, stage)
                listener = _Listener(stage, run, metrics, ending, config)
                seconds = self._run(Task(self._tasks, stage, work), config, listener)
        except DivergenceError as error:
            # Every worker has come to it, and all wait for the next task.
            raise DivergenceError(
                f"stage {stage}: {error}; nothing of it is registered; lower the learning rate"
            ) from None
        except BaseException as error:
            self._abort()
            # What Ray raises then is of any kind.
            if isinstance(error, Exception) and (lost := watch.gone()):
                raise lost from error
            raise
        return _result(stage, folder, seconds)

    def _run(self, task: Task, config: Config, listener: "_Listener") -> float:
        """Each stage may fail `cluster.max_failures` times, however often those before it did.

        Returns the seconds from the moment when all workers were there first.
        """
        failures, allowed = 0, config.cluster.max_failures
        began = None
        while True:
            self.start(config, max_failures=allowed - failures if allowed >= 0 else allowed)
            assert self._running is not None
            try:
                self._running.wait()
                began = began or time.monotonic()
                if self._running.run(task, listener):
                    return time.monotonic() - began
                logger.info("%s: a node is being taken away; going on without it", task.stage)
                self.leave()
            except TrainingFailedError as error:
                attempts = self._running.attempts()
                self._abort()
                failures += attempts
                if attempts == 0 or failures > allowed >= 0:
                    raise root_cause(error) or error from None

    def _abort(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.abort()


class _Running:
    """One Ray Train run, in a thread of its own while the driver hands it tasks."""

    def __init__(self, config: Config, max_failures: int, began: float) -> None:
        self._cluster, self._began = config.cluster, began
        self._are_there = False
        # What the driver is told must not go with some other node; nor does the controller.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._queue: Any = (
            ray.remote(num_cpus=0)(StageQueue).options(scheduling_strategy=here).remote()
        )
        self._failure: BaseException | None = None
        # Ray Train keeps nothing there: checkpoints outlive its run, and are found by fingerprint.
        self._folder = storage_dir(config) / "workers" / uuid.uuid4().hex
        trainer = _trainer(config.cluster, max_failures, self._queue, self._folder)
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self._thread.start()

    def fits(self, cluster: Cluster) -> bool:
        """Whether these are the workers that a stage with that section asks for."""
        return self._thread.is_alive() and _sizes(cluster) == _sizes(self._cluster)

    def wait(self) -> None:
        """Wait until all workers are there, and say once how long that took."""
        if self._are_there:
            return
        told = False
        while not (workers := ray.get(self._queue.present.remote())):
            if not self._thread.is_alive():
                raise self._failure or RuntimeError("the workers did not start")
            if not told and time.monotonic() - self._began > _PATIENCE_S:
                told = True
                logger.info("%s", _waiting(self._cluster))
        self._are_there = True
        took = clock(time.monotonic() - self._began)
        asked = f" of {self._cluster.max_workers}" if self._cluster.elastic else ""
        logger.info("%d%s workers are there, after %s", workers, asked, took)

    def run(self, task: Task, listener: "_Listener") -> bool:
        """Hand the workers a task; tell the listener of it until it ends.

        Returns whether it did, or the workers left it for others, for they lose a node.
        """
        ray.get(self._queue.offer.remote(task))
        lines = 0
        while True:
            news: News = ray.get(self._queue.news.remote(listener.heard, lines))
            listener.hear(news)
            lines += len(news.said)
            if news.error is not None:
                raise cloudpickle.loads(news.error)
            if news.ended or news.left:
                return news.ended
            if not self._thread.is_alive():
                raise self._failure or RuntimeError(f"{task.stage}: the workers are gone")

    def attempts(self) -> int:
        """How often the workers have begun the newest task."""
        return int(ray.get(self._queue.attempts.remote()))

    def close(self) -> None:
        """Tell the workers that there is no further task, and wait until they are gone."""
        ray.get(self._queue.close.remote())
        self._thread.join(_LEAVE_S)
        if self._thread.is_alive():
            self.abort()
        else:
            self._clear()

    def abort(self) -> None:
        """End the workers, whatever they are at."""
        if watch.gone():
            return  # they are too, and nothing here would answer
        with suppress(ray.exceptions.RayError):  # its end is how the controller answers
            controller = ray.get(self._queue.controller.remote(), timeout=_LEAVE_S)
            if controller is not None:
                ray.get(controller.abort.remote(), timeout=_LEAVE_S)
        self._thread.join(_LEAVE_S)
        self._clear()

    def _clear(self) -> None:
        ray.kill(self._queue)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fit(self, trainer: DataParallelTrainer) -> None:
        try:
            trainer.fit()
        except TrainingFailedError as error:
            self._failure = error
        except ray.exceptions.RayError as error:  # the cluster is gone, or `abort` was called
            self._failure = error


def _waiting(cluster: Cluster) -> str:
    free, there = ray.available_resources(), ray.cluster_resources()
    kinds = [kind for kind in ("CPU", "GPU") if kind in there]
    has = " and ".join(f"{free.get(kind, 0):g} of {there[kind]:g} {kind}s" for kind in kinds)
    return (
        f"still waiting for {cluster.min_workers} workers to start; free are {has}: where others "
        "hold the rest, this goes on when they are through"
    )


def _sizes(cluster: Cluster) -> tuple[float, ...]:
    """What of the section cannot change while workers stay."""
    workers = cluster.min_workers, cluster.max_workers
    return *workers, cluster.cpus_per_worker, cluster.gpus_per_worker


def _trainer(cluster: Cluster, max_failures: int, queue: Any, folder: Path) -> DataParallelTrainer:
    resources = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    return ray_private.trainer(
        # Bound to the function and not given as train_loop_config: Ray Train's controller reads
        # that too, and would import for it what only the workers need.
        partial(stay, queue),
        backend_config=ProcessGroup(),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            elastic_resize_monitor_interval_s=SECONDS_BETWEEN_RESIZES,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker={key: n for key, n in resources.items() if n},
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[ray_private.announcing(queue)],  # type: ignore[list-item]  # it takes its own kind too
            # Ray Train warns, with tracebacks, of what it does again by itself on a busy machine:
            # that is in its session's logs, and what fails is told here.
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


class _Listener:
    """What becomes of a stage's news: reports go to MLflow, each once, progress to the terminal.

    What is still going on has a point in MLflow every ten seconds, over the steps done: figures so
    far under `running/`, what is in use of each node under `system/`, where MLflow looks for it. So
    have Prometheus' metrics whenever there may be news, or they would be taken for ended.
    """

    def __init__(
        self, stage: str, run: Run, metrics: StageMetrics, ending: ExitStack, config: Config
    ) -> None:
        """ending: ends what is shown of it."""
        self._against = Against.of(config)
        self.heard = 0
        """Number of reports."""
        self._stage, self._run, self._metrics, self._ending = stage, run, metrics, ending
        self._progress: Progress | None = None
        self._point = 0.0  # when the last one was logged
        self._newest: dict[str, str] = {}  # figures of the last evaluation, in words

    def hear(self, news: News) -> None:
        for metrics in news.reports:
            self._run.log(metrics, int(metrics.get("step", metrics.get("epoch", self.heard))))
            self.heard += 1
            events.tell("epoch", stage=self._stage, run_id=self._run.known_id, **_short(metrics))
        for said in news.said:
            events.tell("said", stage=self._stage, line=said.line)
            level = logging.WARNING if said.warning else logging.INFO
            logger.log(level, "%s: %s", self._stage, said.line)
            if said.newest is not None:
                what, value = said.newest
                self._newest = {what: f"{value},"}
        if news.progress is None:
            return
        done, total = news.progress
        measured, figures = news.figures
        if self._progress is None:
            self._progress = self._ending.enter_context(
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
    """A report without the counts of an evaluation, whose figures are beside them."""
    return {name: value for name, value in metrics.items() if name != "evaluation"}


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
