"""The only worker, in this process and without Ray: for trials, benchmarks and ablations."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dsnet.io.files import atomic_directory
from pipeline.config import Config, config_from_dict
from pipeline.training.stage_queue import Message
from pipeline.training.worker import Worker


class LocalWorker(Worker):
    """Keeps its last checkpoint in `directory`, and what it reported in `metrics`."""

    def __init__(self, config: Config, directory: Path) -> None:
        super().__init__(config, 0, 1, torch.device("cpu"))
        self.directory = directory
        self.metrics: list[dict[str, Any]] = []
        self.said: list[Message] = []
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
        self.said.append(Message(line, warning, newest))

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
