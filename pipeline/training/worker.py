"""One training worker: its share of the data, its progress, its reports."""

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from ray import cloudpickle
from torch import Tensor

from dsnet import DSNet
from dsnet.errors import DivergenceError, InputError, OutageError
from dsnet.io.files import atomic_directory
from pipeline.config import Config, config_from_dict, import_plugins
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Beton, read_manifest
from pipeline.data.remote.beton import at_hand
from pipeline.data.split import holdout
from pipeline.training import checkpoint
from pipeline.training.checkpoint_writer import CheckpointWriter
from pipeline.training.sanity import Chance
from pipeline.training.stage_queue import Said
from pipeline.training.usage import Usage

T = TypeVar("T")

SECONDS_BETWEEN_MESSAGES = 0.5
SECONDS_BETWEEN_USAGES = 10.0


class Leaves(Exception):
    """A node of these workers is about to be taken away: they end, for others to go on."""


class Worker(ABC):
    """What every stage's training loop starts from.

    config: the chain's, its plugins not yet imported. What a stage reads beside it are the loop's
    inputs.
    """

    def __init__(self, config: Config, rank: int, world_size: int, device: torch.device) -> None:
        import_plugins(config)
        self.config, self.rank, self.world_size = config, rank, world_size
        self.device = device
        self._loaders = ExitStack()
        self._splits: dict[Beton, tuple[np.ndarray, np.ndarray]] = {}
        torch.set_num_threads(self.config.cluster.threads)
        torch.manual_seed(self.config.seed)

    @property
    def step_shares(self) -> int:
        """Shares, of a batch each, that a training step's images are in.

        One for every worker; of elastic workers, as many as there are at most.
        """
        cluster = self.config.cluster
        return cluster.max_workers if cluster.elastic else self.world_size

    @property
    def shares(self) -> range:
        """The numbers of those that are this worker's, one after another in each step.

        Several where elastic workers are fewer than shares: so a step is of the same images.
        """
        return range(self.rank, self.step_shares, self.world_size)

    @abstractmethod
    def progress(self, done: int, total: int, **figures: float) -> None:
        """Say how far this worker is; figures: of the work so far, such as losses."""

    @abstractmethod
    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        *,
        final: bool = False,
        best: float | None = None,
    ) -> None:
        """Report metrics; with `write`, a folder that it fills becomes a checkpoint.

        metrics: plain numbers, nested; "step" or "epoch" among them is where its curves have them.
        None at all, {}, for a checkpoint that tells nothing new. Rank 0's count.
        write: called by rank 0 alone, in a thread, while the training goes on: what it writes must
        be copies. At most one is under way; what it raises, the next report does.
        final: whether the checkpoint is what the stage hands on; it is there when `report` returns.
        best: the figure, higher is better, by which the best checkpoint is kept beside the newest.
        """

    @abstractmethod
    def say(
        self, line: str, *, warning: bool = False, newest: tuple[str, str] | None = None
    ) -> None:
        """Say a line to whoever looks on; rank 0's counts. newest: see `Said`."""

    @abstractmethod
    def resume(self, restore: Callable[[Path], None]) -> None:
        """Call `restore` with the folder of the newest whole checkpoint, if there is one."""

    @abstractmethod
    def best(self) -> Path | None:
        """The folder of the whole checkpoint with the highest `best`, the same on every rank."""

    def notice(self) -> bool:
        """Whether a node of these workers is about to be taken away.

        The same on every rank. Every rank has to ask, and as often: it is a collective.
        """
        return False

    def leave(self) -> None:
        """End this worker's part, when the checkpoint under way is there: raises Leaves."""
        raise Leaves

    def must_save(self) -> bool:
        """Whether others wait for a checkpoint to take these workers' place; rank 0 knows."""
        return False

    def agree(self, value: bool) -> bool:
        """Rank 0's `value`, on every rank; a collective."""
        return value

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """What every rank has, by rank, on every rank; a collective."""
        if self.world_size == 1:
            return [data]
        parts = [b""] * self.world_size
        dist.all_gather_object(parts, data)
        return parts

    def seed(self, epoch: int) -> None:
        """Seed torch for one epoch, each rank in its own way (dropout).

        What an epoch draws thus depends on nothing that came before it, so that one that is trained
        again after a failure is the same as before.
        """
        torch.manual_seed(self.epoch_seed(epoch))

    def epoch_seed(self, epoch: int) -> int:
        """A number of its own for every seed of the config, epoch and rank."""
        return (self.config.seed * 1_000_003 + epoch) * self.world_size + self.rank

    def loader(
        self,
        beton: Beton,
        batch_size: int,
        *,
        train: bool,
        indices: np.ndarray | None = None,
        shared: bool = True,
        exact: bool | None = None,
        mix: bool = False,
        balanced: bool = False,
        resolution_of: Callable[[int], int] | None = None,
    ) -> Loader:
        """This rank's share of `beton`, or all of it; see `pipeline.data.loading.loader.Loader`."""
        config = self.config
        rank: int | range = 0
        world_size = 1
        if shared:
            in_steps = train and not exact
            rank, world_size = (
                (self.shares, self.step_shares) if in_steps else (self.rank, self.world_size)
            )
        options = LoaderOptions.of(
            config,
            batch_size,
            train=train,
            indices=indices,
            rank=rank,
            world_size=world_size,
            exact=exact,
            pin=self.device.type == "cuda",
            mix=mix,
            balanced=balanced,
            resolution_of=resolution_of,
        )
        loader = Loader(beton, options)
        self._loaders.callback(loader.close)
        return loader

    def close(self) -> None:
        """End the loaders and their threads."""
        self._loaders.close()

    def train_and_holdout(self, beton: Beton) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the images of `beton` to train on, and of those kept aside."""
        if beton not in self._splits:
            manifest = read_manifest(at_hand(beton))
            self._splits[beton] = holdout(manifest, self.config.data.holdout, self.config.seed)
        return self._splits[beton]

    def train_loader(
        self,
        beton: Beton,
        batch_size: int,
        *,
        mix: bool = False,
        resolution_of: Callable[[int], int] | None = None,
    ) -> Loader:
        """The images to train on, shuffled and transformed at random, as many on every rank.

        mix: whether this stage mixes them, where the recipe does. resolution_of: see `Loader`.
        """
        ours, _ = self.train_and_holdout(beton)
        return self.loader(
            beton,
            batch_size,
            train=True,
            indices=ours,
            mix=mix,
            balanced=self.config.data.sampling == "balanced",
            resolution_of=resolution_of,
        )

    def holdout_loader(self, beton: Beton, batch_size: int) -> Loader:
        """The images kept aside, each exactly once over all ranks."""
        _, aside = self.train_and_holdout(beton)
        return self.loader(beton, batch_size, train=False, indices=aside)

    def holdout_chance(self, beton: Beton) -> Chance:
        """What an answer that looks at no image reaches on the images kept aside."""
        _, aside = self.train_and_holdout(beton)
        manifest = read_manifest(at_hand(beton))
        counts = np.bincount(manifest.labels()[aside], minlength=len(manifest.classes))
        return Chance.of(counts.tolist())

    def batches(self, batches: Iterator[Batch], model: DSNet) -> Iterator[tuple[Tensor, Tensor]]:
        """What `Batch.pair` makes of each, on this worker's device."""
        for batch in batches:
            yield batch.pair(model, self.device)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all workers, by rank; n may differ from worker to worker."""
        if self.world_size == 1:
            return rows
        parts: list[Tensor] = [rows] * self.world_size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts).to(rows.device)


@dataclass(frozen=True)
class Work(Generic[T]):
    """What a driver gives its workers to do."""

    loop: Callable[[Worker, T], None]
    inputs: T
    config: Config
    run_folder: Path
    """Where the checkpoints are."""


@dataclass(frozen=True)
class Assignment:
    """What a worker knows of its task beside the loop's inputs."""

    queue: Any
    """Handle of the `StageQueue` that the task is of, and to which rank 0 tells how it goes."""
    number: int
    """Of the task in its queue."""
    config: Config
    run_folder: Path
    """Where the checkpoints are."""


class TrainWorker(Worker):
    """A worker of Ray Train."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        context = ray.train.get_context()
        rank, world_size = context.get_world_rank(), context.get_world_size()
        super().__init__(assignment.config, rank, world_size, ray.train.torch.get_device())
        self._checkpoints = CheckpointWriter(assignment.run_folder)
        self._history: list[dict[str, Any]] = []
        self._usage = Usage(self.device, assignment.run_folder)
        self._node = context.get_node_rank() if context.get_local_rank() == 0 else None
        self._told = self._used = 0.0
        self._awaited = False

    def progress(self, done: int, total: int, **figures: float) -> None:
        now, queue, number = time.monotonic(), self.assignment.queue, self.assignment.number
        # A message takes as long as a small network's step: as many as anybody can read.
        due = figures or now - self._told > SECONDS_BETWEEN_MESSAGES or done == total
        if self.rank == 0 and due:
            self._told = now
            queue.write.remote(number, done, total, figures)
        if self._node is not None and (now - self._used > SECONDS_BETWEEN_USAGES or done == total):
            self._used = now
            queue.use.remote(number, self._node, self._usage.figures())

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
            report = checkpoint.Report(metrics, [*self._history], final=final, best=best)
            self._checkpoints.write(write, report)
            if self._awaited:
                self._checkpoints.wait()
                self._tell("saved")

    def say(
        self, line: str, *, warning: bool = False, newest: tuple[str, str] | None = None
    ) -> None:
        if self.rank == 0:
            self._tell("say", Said(line, warning, newest))

    def resume(self, restore: Callable[[Path], None]) -> None:
        found = None
        if self.rank == 0:
            self._checkpoints.wait()
            if newest := checkpoint.newest_whole(self.assignment.run_folder):
                self._history = [*newest.report.history]
                for index, metrics in enumerate(self._history):
                    self._tell("report", index, metrics)
                self.say(f"goes on from {newest.folder}")
                found = str(newest.folder)
        # One looks and all follow: what is damaged must be so for every worker.
        if folder := ray.train.collective.broadcast_from_rank_zero(found):
            restore(Path(folder))

    def best(self) -> Path | None:
        found = None
        if self.rank == 0:
            self._checkpoints.wait()
            found = checkpoint.best_whole(self.assignment.run_folder)
        folder = ray.train.collective.broadcast_from_rank_zero(found and str(found.folder))
        return Path(folder) if folder else None

    def notice(self) -> bool:
        coming = ray.train.get_preemption_info() is not None
        if coming and self.rank == 0:
            self._tell("preempt")
        return coming

    def leave(self) -> None:
        self._checkpoints.wait()
        if self.rank == 0:
            self._tell("leave")
        super().leave()

    def must_save(self) -> bool:
        if self.rank == 0 and self.config.cluster.elastic:
            self._awaited = self._tell("wants_saving")
        return self._awaited

    def agree(self, value: bool) -> bool:
        return bool(ray.train.collective.broadcast_from_rank_zero(value))

    def close(self) -> None:
        self._checkpoints.close()
        super().close()

    def _tell(self, method: str, *values: object) -> Any:
        """What the queue answers."""
        call = getattr(self.assignment.queue, method)
        return ray.get(call.remote(self.assignment.number, *values))


def stay(queue: Any) -> None:
    """What a worker of Ray Train runs: one task after another, until its queue has no more.

    Or until one of its node's neighbours is to be taken away: that all return ends Ray Train's run
    as one that has succeeded, before the deadline that its own restart would wait for.

    Not beside the driver, whose module a worker would import with it, MLflow and all.
    """
    rank = ray.train.get_context().get_world_rank()
    number = 0
    while (task := ray.get(queue.take.remote(number, rank))) is not None:
        number = task.number
        work: Work[Any] = cloudpickle.loads(task.work)
        try:
            with closing(
                TrainWorker(Assignment(queue, number, work.config, work.run_folder))
            ) as worker:
                work.loop(worker, work.inputs)
        except Leaves:
            return
        except DivergenceError as error:
            # Every worker ends here, and would again: not for Ray Train to start once more.
            ray.get(queue.fail.remote(number, cloudpickle.dumps(error)))
        except (InputError, OutageError) as error:
            # One worker's perhaps, for which the others wait: they end with the driver's answer.
            # To raise it would have Ray Train print its trace, and start all anew, before that.
            ray.get(queue.fail.remote(number, cloudpickle.dumps(error)))
            return
        except SystemExit as error:
            ended = InputError(
                f"plugins: expected modules that raise errors, found one that ends its worker "
                f"(sys.exit({error.code!r:.60}))"
            )
            ray.get(queue.fail.remote(number, cloudpickle.dumps(ended)))
            return
        ray.get(queue.end.remote(number, rank))


class LocalWorker(Worker):
    """The only worker, in this process: for benchmarks and ablations. Keeps its last checkpoint."""

    def __init__(self, config: Config, directory: Path) -> None:
        super().__init__(config, 0, 1, torch.device("cpu"))
        self.directory = directory
        self.metrics: list[dict[str, Any]] = []
        self.said: list[Said] = []
        self._best: float | None = None

    def progress(self, done: int, total: int, **figures: float) -> None:
        pass  # whoever runs several of these shows how many are done

    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        *,
        final: bool = False,
        best: float | None = None,
    ) -> None:
        if metrics:
            self.metrics.append(metrics)
        if write is None:
            return
        with atomic_directory(self.directory) as folder:
            write(folder)
        if best is not None and (self._best is None or best > self._best):
            self._best = best
            with atomic_directory(self._best_directory) as folder:
                shutil.copytree(self.directory, folder, dirs_exist_ok=True)

    def say(
        self, line: str, *, warning: bool = False, newest: tuple[str, str] | None = None
    ) -> None:
        self.said.append(Said(line, warning, newest))

    def resume(self, restore: Callable[[Path], None]) -> None:
        if self.directory.is_dir():
            restore(self.directory)

    def best(self) -> Path | None:
        return None if self._best is None else self._best_directory

    @property
    def _best_directory(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}-best")


def alone(config: Config) -> Config:
    """`config` for a `LocalWorker`: the whole batch instead of several workers' shares of it."""
    values = config.as_dict()
    for section in ("supernet", "gate"):
        values[section]["batch_size"] *= config.cluster.max_workers
    values["cluster"]["workers"] = 1
    return config_from_dict(values)
