"""One Ray Train worker: its share of the data, its progress, its reports."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from dsnet import Metadata, normalize
from pipeline.config import config_from_dict
from pipeline.data.loader import Batch, Loader
from pipeline.data.manifest import read_manifest
from pipeline.data.split import holdout

Settings = dict[str, Any]


class Worker:
    """What every stage's training loop starts from.

    settings: plain values, as the driver sent them: "config", the folders and files that the stage
    reads, and "board", where rank 0 writes its progress.
    """

    def __init__(self, settings: Settings) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.settings = settings
        self.config = config_from_dict(settings["config"])
        self.device = ray.train.torch.get_device()
        self._board = settings["board"]
        torch.set_num_threads(self.config.cluster.threads)
        torch.manual_seed(self.config.seed)
        # One long line per report and rank; the driver shows progress, MLflow keeps the figures.
        logging.getLogger("ray.train").setLevel(logging.WARNING)

    def loader(
        self,
        beton: str,
        batch_size: int,
        *,
        train: bool,
        indices: np.ndarray | None = None,
        shared: bool = True,
    ) -> Loader:
        """This rank's share of `beton`, or all of it; see `pipeline.data.loader.Loader`."""
        config = self.config
        return Loader(
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
            pin=self.device.type == "cuda",
        )

    def train_and_holdout(self, beton: str) -> tuple[np.ndarray, np.ndarray]:
        """The training images' indices, and those kept aside."""
        return holdout(read_manifest(beton), self.config.data.holdout, self.config.seed)

    def batches(
        self, batches: Iterator[Batch], metadata: Metadata
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(normalised images (N, 3, H, W), labels (N,)) on this worker's device."""
        for batch in batches:
            images = batch.images.to(self.device, non_blocking=True)
            labels = batch.labels.to(self.device, non_blocking=True)
            yield normalize(images, metadata.mean, metadata.std), labels

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all workers, by rank; n may differ from worker to worker."""
        if self.world_size == 1:
            return rows
        parts: list[Tensor] = [rows] * self.world_size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts).to(rows.device)

    def progress(self, done: int, total: int, **fields: float) -> None:
        """Show how far rank 0 is."""
        if self.rank == 0:
            self._board.write.remote(total, done, fields)

    def report(
        self, metrics: dict[str, Any], write: Callable[[Path], object] | None = None
    ) -> None:
        """Report to Ray Train; with `write`, rank 0 fills a folder that becomes a checkpoint."""
        if write is None or self.rank > 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
