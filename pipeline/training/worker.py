"""One training worker: its share of the data, its progress, its reports."""

import logging
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from dsnet import DSNet, normalize
from dsnet.errors import DivergenceError
from dsnet.files import atomic_directory
from pipeline.cluster.ray_private import report_logger
from pipeline.config import Config, config_from_dict, import_plugins
from pipeline.data.loader import Batch, Loader
from pipeline.data.manifest import read_manifest
from pipeline.data.split import holdout
from pipeline.training import checkpoint

T = TypeVar("T")


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
        self._splits: dict[Path, tuple[np.ndarray, np.ndarray]] = {}
        torch.set_num_threads(self.config.cluster.threads)
        torch.manual_seed(self.config.seed)

    @abstractmethod
    def progress(self, done: int, total: int, **fields: float) -> None:
        """Say how far this worker is."""

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

        final: whether the checkpoint is what the stage hands on.
        """

    @abstractmethod
    def resume(self, restore: Callable[[Path], None]) -> None:
        """Call `restore` with the folder of the newest whole checkpoint, if there is one."""

    def best(self) -> Path | None:
        """The folder of the whole checkpoint with the highest `best`, the same on every rank."""
        raise NotImplementedError

    def notice(self) -> bool:
        """Whether a node of these workers is about to be taken away; a collective."""
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
        beton: Path,
        batch_size: int,
        *,
        train: bool,
        indices: np.ndarray | None = None,
        shared: bool = True,
        exact: bool | None = None,
    ) -> Loader:
        """This rank's share of `beton`, or all of it; see `pipeline.data.loader.Loader`."""
        config = self.config
        loader = Loader(
            beton,
            batch_size=batch_size,
            recipe=config.data.recipe,
            train=train,
            resolution=config.data.resolution,
            seed=config.seed,
            indices=indices,
            rank=self.rank if shared else 0,
            world_size=self.world_size if shared else 1,
            threads=config.cluster.threads,
            exact=exact,
            pin=self.device.type == "cuda",
        )
        self._loaders.callback(loader.close)
        return loader

    def close(self) -> None:
        """End the loaders and their threads."""
        self._loaders.close()

    def train_and_holdout(self, beton: Path) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the images of `beton` to train on, and of those kept aside."""
        if beton not in self._splits:
            manifest = read_manifest(beton)
            self._splits[beton] = holdout(manifest, self.config.data.holdout, self.config.seed)
        return self._splits[beton]

    def train_loader(self, beton: Path, batch_size: int) -> Loader:
        """The images to train on, shuffled and transformed at random, as many on every rank."""
        ours, _ = self.train_and_holdout(beton)
        return self.loader(beton, batch_size, train=True, indices=ours)

    def holdout_loader(self, beton: Path, batch_size: int) -> Loader:
        """The images kept aside, each exactly once over all ranks."""
        _, aside = self.train_and_holdout(beton)
        return self.loader(beton, batch_size, train=False, indices=aside)

    def batches(self, batches: Iterator[Batch], model: DSNet) -> Iterator[tuple[Tensor, Tensor]]:
        """The (inputs, targets) of `model.task`, on this worker's device.

        For classification: normalised images (N, 3, H, W) and labels (N,).
        """
        mean, std = model.metadata.mean, model.metadata.std
        for batch in batches:
            images = batch.images.to(self.device, non_blocking=True)
            labels = batch.labels.to(self.device, non_blocking=True)
            yield model.task.pair(normalize(images, mean, std), labels)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all workers, by rank; n may differ from worker to worker."""
        if self.world_size == 1:
            return rows
        parts: list[Tensor] = [rows] * self.world_size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts).to(rows.device)


@dataclass(frozen=True)
class Assignment:
    """What a driver tells each worker of a run on Ray Train."""

    config: Config
    board: Any
    """Handle of the `progress_actor.Board` on which rank 0 writes its progress."""
    run_folder: Path
    """Where the run's checkpoints are."""


class TrainWorker(Worker):
    """A worker of Ray Train."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        context = ray.train.get_context()
        rank, world_size = context.get_world_rank(), context.get_world_size()
        super().__init__(assignment.config, rank, world_size, ray.train.torch.get_device())
        # One long line per report and rank; the driver shows progress, MLflow keeps the figures.
        logging.getLogger(report_logger()).setLevel(logging.WARNING)

    def progress(self, done: int, total: int, **fields: float) -> None:
        if self.rank == 0:
            self.assignment.board.write.remote(total, done, fields)

    def report(
        self,
        metrics: dict[str, Any],
        write: Callable[[Path], object] | None = None,
        *,
        final: bool = False,
        best: float | None = None,
    ) -> None:
        if write is None or self.rank > 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder)
            checkpoint.seal(folder, metrics, final=final)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    def resume(self, restore: Callable[[Path], None]) -> None:
        found = None
        if self.rank == 0:
            # A newer one than Ray Train knows was uploaded, but what it reports was not passed on:
            # its epoch is done again.
            known = ray.train.get_checkpoint()
            newest = checkpoint.newest_whole(
                self.assignment.run_folder, until=known and Path(known.path).name
            )
            found = newest and str(newest.folder)
        # One looks and all follow: what is damaged must be so for every worker.
        if folder := ray.train.collective.broadcast_from_rank_zero(found):
            restore(Path(folder))


def on_worker(loop: Callable[[Worker, T], None], inputs: T, assignment: Assignment) -> None:
    """Run a stage's loop on a worker of Ray Train; a divergence goes to the board.

    Not beside the driver, whose module a worker would import with it, MLflow and all.
    """
    with closing(TrainWorker(assignment)) as worker:
        try:
            loop(worker, inputs)
        except DivergenceError as error:
            # Every worker ends here, and would again: not for Ray Train to start once more.
            if worker.rank == 0:
                ray.get(assignment.board.fail.remote(str(error)))


class LocalWorker(Worker):
    """The only worker, in this process: for benchmarks and ablations. Keeps its last checkpoint."""

    def __init__(self, config: Config, directory: Path) -> None:
        super().__init__(config, 0, 1, torch.device("cpu"))
        self.directory = directory
        self.metrics: list[dict[str, Any]] = []
        self._best: float | None = None

    def progress(self, done: int, total: int, **fields: float) -> None:
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

    def best(self) -> Path | None:
        return None if self._best is None else self._best_directory

    @property
    def _best_directory(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}-best")

    def resume(self, restore: Callable[[Path], None]) -> None:
        if self.directory.is_dir():
            restore(self.directory)


def alone(config: Config) -> Config:
    """`config` for a `LocalWorker`: the whole batch instead of several workers' shares of it."""
    values = config.as_dict()
    for section in ("supernet", "gate"):
        values[section]["batch_size"] *= config.cluster.workers
    values["cluster"]["workers"] = 1
    return config_from_dict(values)
