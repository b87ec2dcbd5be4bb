"""One Ray Train run on its driver: its workers started, handed stages, and ended."""

import logging
import shutil
import threading
import time
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.train import TrainingFailedError

# Ray Train V2's own modules: type checkers see the first version's under ray.train.
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster import ray_private, watch
from pipeline.cluster.progress import clock
from pipeline.config import Cluster, Config, storage_dir
from pipeline.training.listener import Listener
from pipeline.training.process_group import ProcessGroup
from pipeline.training.ray_worker import run_stages
from pipeline.training.stage_queue import QueuedStage, StageQueue, StageState

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_RESIZES = 60.0
"""How often Ray Train looks whether there is room for more elastic workers: to take them in costs
a start of all."""

_LEAVE_S = 15.0
_PATIENCE_S = 45.0


class RayRun:
    """One Ray Train run, in a thread, whose workers take stages from a queue until it is closed."""

    def __init__(self, config: Config, max_failures: int, began: float) -> None:
        self._cluster, self._began = config.cluster, began
        self._started = False
        # On the driver's node: the queue must not be lost with some other one.
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
        """Whether these are the workers that a stage with that `cluster` section asks for."""
        return self._thread.is_alive() and _sizes(cluster) == _sizes(self._cluster)

    def wait(self) -> None:
        """Wait until all workers have started, and say once how long that took."""
        if self._started:
            return
        told = False
        while not (workers := ray.get(self._queue.present.remote())):
            if not self._thread.is_alive():
                raise self._failure or RuntimeError("the workers did not start")
            if not told and time.monotonic() - self._began > _PATIENCE_S:
                told = True
                logger.info("%s", _waiting(self._cluster))
        self._started = True
        took = clock(time.monotonic() - self._began)
        asked = f" of {self._cluster.max_workers}" if self._cluster.elastic else ""
        logger.info("%d%s workers started, after %s", workers, asked, took)

    def run(self, stage: QueuedStage, listener: Listener) -> bool:
        """Hand the workers a stage; tell the listener of it until it ends.

        Returns whether it ended, or was left for other workers, as these lose a node.
        """
        ray.get(self._queue.offer.remote(stage))
        listener.messages = 0  # the queue's state is a new one; reports are numbered by the stage
        while True:
            news: StageState = ray.get(self._queue.news.remote(listener.reports, listener.messages))
            listener.hear(news)
            if news.error is not None:
                raise cloudpickle.loads(news.error)
            if news.ended or news.left:
                return news.ended
            if not self._thread.is_alive():
                raise self._failure or RuntimeError(f"{stage.name}: the workers are gone")

    def attempts(self) -> int:
        """How often the workers have begun the newest stage."""
        return int(ray.get(self._queue.attempts.remote()))

    def close(self) -> None:
        """Tell the workers that there is no further stage, and wait until they are gone."""
        ray.get(self._queue.close.remote())
        self._thread.join(_LEAVE_S)
        if self._thread.is_alive():
            self.abort()
        else:
            self._clear()

    def abort(self) -> None:
        """End the workers, whatever they do."""
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
        partial(run_stages, queue),
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
            # On a busy machine Ray Train warns, with tracebacks, of what it retries by itself: that
            # is in its session's logs, and what fails is raised here.
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
