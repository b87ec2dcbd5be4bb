"""A worker of Ray Train, and what it runs: one stage after another, as the driver hands them on."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import ray
import ray.train
import ray.train.collective
import ray.train.torch
from ray import cloudpickle

import pipeline.data.loading.loader  # noqa: F401  what every stage needs, imported while others still start
from dsnet.errors import DivergenceError, InputError, OutageError
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.checkpoint_writer import CheckpointWriter
from pipeline.training.stage_queue import Message
from pipeline.training.usage import Usage
from pipeline.training.worker import Preempted, T, Worker

SECONDS_BETWEEN_MESSAGES = 0.5
SECONDS_BETWEEN_USAGES = 10.0


@dataclass(frozen=True)
class Assignment(Generic[T]):
    """A stage, as a driver hands it to its workers."""

    loop: Callable[[Worker, T], None]
    inputs: T
    config: Config
    run_folder: Path
    """Where the checkpoints are."""


class TrainWorker(Worker):
    """A worker of Ray Train."""

    def __init__(self, config: Config, run_folder: Path, queue: Any, number: int) -> None:
        """queue: handle of the `StageQueue` that it takes its stage from, and to which it reports.
        number: of the stage in that queue. run_folder: where its checkpoints are.
        """
        self.queue, self.number, self.run_folder = queue, number, run_folder
        context = ray.train.get_context()
        rank, world_size = context.get_world_rank(), context.get_world_size()
        super().__init__(config, rank, world_size, ray.train.torch.get_device())
        self._checkpoints = CheckpointWriter(run_folder)
        self._history: list[dict[str, Any]] = []
        self._usage = Usage(self.device, run_folder)
        self._node = context.get_node_rank() if context.get_local_rank() == 0 else None
        self._told = self._used = 0.0
        self._awaited = False

    def progress(self, done: int, total: int, **figures: float) -> None:
        now = time.monotonic()
        # A message takes as long as a small network's step: as many as anybody can read.
        due = figures or now - self._told > SECONDS_BETWEEN_MESSAGES or done == total
        if self.rank == 0 and due:
            self._told = now
            news = {"figures": (done, figures)} if figures else {}
            self.queue.put.remote(self.number, progress=(done, total), **news)
        if self._node is not None and (now - self._used > SECONDS_BETWEEN_USAGES or done == total):
            self._used = now
            self.queue.use.remote(self.number, self._node, self._usage.figures())

    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        *,
        final: bool = False,
        best: float | None = None,
    ) -> None:
        if self.rank > 0:
            return
        if metrics:
            self._tell("report", len(self._history), metrics)
            self._history.append(metrics)
        if write is not None:
            report = checkpoint.CheckpointReport(metrics, [*self._history], final=final, best=best)
            self._checkpoints.write(write, report)
            if self._awaited:
                self._checkpoints.wait()
                self._tell("put", save=False)

    def say(
        self, line: str, *, warning: bool = False, newest: tuple[str, str] | None = None
    ) -> None:
        if self.rank == 0:
            self._tell("say", Message(line, warning, newest))

    def resume(self, restore: Callable[[Path], None]) -> None:
        found = None
        if self.rank == 0:
            self._checkpoints.wait()
            if newest := checkpoint.newest_whole(self.run_folder):
                self._history = [*newest.report.history]
                # A driver that was started again has heard none of these yet.
                for index, metrics in enumerate(self._history):
                    self._tell("report", index, metrics)
                self.say(f"goes on from {newest.folder}")
                found = str(newest.folder)
        # Rank 0 looks and all follow: a folder that one node reads as damaged, another might not.
        if folder := ray.train.collective.broadcast_from_rank_zero(found):
            restore(Path(folder))

    def best(self) -> Path | None:
        found = None
        if self.rank == 0:
            self._checkpoints.wait()
            found = checkpoint.best_whole(self.run_folder)
        folder = ray.train.collective.broadcast_from_rank_zero(found and str(found.folder))
        return Path(folder) if folder else None

    def preempted(self) -> bool:
        coming = ray.train.get_preemption_info() is not None
        if coming and self.rank == 0:
            self._tell("put", preempted=True)
        return coming

    def leave(self) -> None:
        self._checkpoints.wait()
        if self.rank == 0:
            self._tell("put", left=True)
        super().leave()

    def must_save(self) -> bool:
        if self.rank == 0 and self.config.cluster.elastic:
            self._awaited = self._tell("wants_saving")
        return self._awaited

    def close(self) -> None:
        self._checkpoints.close()
        super().close()

    def _tell(self, method: str, *values: object, **fields: object) -> Any:
        """What the queue answers."""
        return ray.get(getattr(self.queue, method).remote(self.number, *values, **fields))


def run_stages(queue: Any) -> None:
    """What a worker of Ray Train runs: one stage after another, until its queue has no more.

    Or until a node of the run is about to be taken away: that all return ends Ray Train's run
    as one that has succeeded, before the deadline that its own restart would wait for.

    After a worker was killed, Ray Train starts all of them again, and they begin here: the
    queue hands out the unfinished stage again, whose loop resumes from its newest checkpoint.
    """
    rank = ray.train.get_context().get_world_rank()
    number = 0
    while (queued := ray.get(queue.take.remote(number, rank))) is not None:
        number = queued.number
        stage: Assignment[Any] = cloudpickle.loads(queued.assignment)
        try:
            worker = TrainWorker(stage.config, stage.run_folder, queue, number)
            with closing(worker):
                stage.loop(worker, stage.inputs)
        except Preempted:
            return
        except DivergenceError as error:
            # Every worker ends here, and would again: not for Ray Train to start once more.
            ray.get(queue.put.remote(number, error=cloudpickle.dumps(error)))
        except (InputError, OutageError) as error:
            # Perhaps of one worker, for which the others wait: they end with the driver's answer.
            # Raised, it would have Ray Train print its trace and start all of them again first.
            ray.get(queue.put.remote(number, error=cloudpickle.dumps(error)))
            return
        except SystemExit as error:
            ended = InputError(
                f"plugins: expected modules that raise errors, found one that ends its worker "
                f"(sys.exit({error.code!r:.60}))"
            )
            ray.get(queue.put.remote(number, error=cloudpickle.dumps(ended)))
            return
        ray.get(queue.end.remote(number, rank))
