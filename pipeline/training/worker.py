"""One training worker, as every stage's loop sees it: its share of the data, what it reports.

What a loop calls is here, without Ray and FFCV: drivers import the loops too. Workers of Ray Train
are in `ray_worker.py`, and one without Ray in `local_worker.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from dsnet import DSNet
from pipeline.config import Config, import_plugins
from pipeline.data.manifest import Beton, read_manifest
from pipeline.data.remote.beton import at_hand
from pipeline.data.split import holdout
from pipeline.training.chance import Chance

if TYPE_CHECKING:  # it brings FFCV
    from pipeline.data.loading.batch import Batch
    from pipeline.data.loading.loader import Loader

T = TypeVar("T")


class Preempted(Exception):
    """A node of these workers is about to be taken away: they end, for others to go on."""


class Worker(ABC):
    """What every stage's training loop starts from."""

    def __init__(self, config: Config, rank: int, world_size: int, device: torch.device) -> None:
        """config: the chain's, its plugins not yet imported; the rest are the loop's inputs."""
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
        be copies. At most one is being written; what it raises, the next report raises.
        final: whether the checkpoint is what the stage hands on; it is whole when `report` returns.
        best: the figure, higher is better, by which the best checkpoint is kept too.
        """

    @abstractmethod
    def say(
        self, line: str, *, warning: bool = False, newest: tuple[str, str] | None = None
    ) -> None:
        """Say a line to whoever looks on; rank 0's counts. newest: see `Message`."""

    @abstractmethod
    def resume(self, restore: Callable[[Path], None]) -> None:
        """Call `restore` with the folder of the newest whole checkpoint, if there is one."""

    @abstractmethod
    def best(self) -> Path | None:
        """The folder of the whole checkpoint with the highest `best`, the same on every rank."""

    def preempted(self) -> bool:
        """Whether a node of these workers is about to be taken away.

        The same on every rank. Every rank has to ask, and as often: it is a collective.
        """
        return False

    def leave(self) -> None:
        """End this worker's part once the checkpoint being written is whole: raises Preempted."""
        raise Preempted

    def must_save(self) -> bool:
        """Whether others wait for a checkpoint to take these workers' place; rank 0 knows."""
        return False

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
        """A number that no other seed of the config, epoch or rank has."""
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
    ) -> "Loader":
        """This rank's share of `beton`, or all of it; see `pipeline.data.loading.loader.Loader`."""
        from pipeline.data.loading.loader import Loader, LoaderOptions

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
    ) -> "Loader":
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

    def holdout_loader(self, beton: Beton, batch_size: int) -> "Loader":
        """The images kept aside, each exactly once over all ranks."""
        _, aside = self.train_and_holdout(beton)
        return self.loader(beton, batch_size, train=False, indices=aside)

    def holdout_chance(self, beton: Beton) -> Chance:
        """What an answer that looks at no image reaches on the images kept aside."""
        _, aside = self.train_and_holdout(beton)
        manifest = read_manifest(at_hand(beton))
        counts = np.bincount(manifest.labels()[aside], minlength=len(manifest.classes))
        return Chance.of(counts.tolist())

    def batches(self, batches: Iterator["Batch"], model: DSNet) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of each batch, on this worker's device."""
        for batch in batches:
            yield batch.pair(model, self.device)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all workers, by rank; n may differ from worker to worker."""
        if self.world_size == 1:
            return rows
        parts: list[Tensor] = [rows] * self.world_size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts).to(rows.device)
