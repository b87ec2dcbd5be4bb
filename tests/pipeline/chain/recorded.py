"""Stage I that writes down which images it reads for which step, as slowly as a test needs it.

Workers import this module: it needs to be light.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.loader import Loader
from pipeline.stages.stage import Stage
from pipeline.training.worker import Worker


@dataclass(frozen=True)
class Record:
    """What every worker read, in a folder of its own."""

    folder: Path
    seconds: float
    """Spent on each batch, until `hurry`."""

    def within(self, stage: Stage[Any]) -> Stage[Any]:
        """The stage, written down."""
        return replace(stage, loop=partial(_loop, self, stage.loop))

    def hurry(self) -> None:
        """From now on spend no time."""
        self._hurry.touch()

    def steps(self) -> dict[tuple[int, int], dict[int, list[list[int]]]]:
        """By epoch and step, and by how many workers there were then, the images of each attempt.

        An attempt that was left before all of its workers had read theirs is left out.
        """
        found: dict[tuple[int, int], dict[int, list[list[int]]]] = {}
        parts: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for file in sorted(self.folder.glob("read-*.jsonl"), key=lambda path: path.stat().st_mtime):
            for line in file.read_text().splitlines():
                epoch, step, workers, rank, images = json.loads(line)
                parts.setdefault((epoch, step, workers), []).append((rank, images))
        for (epoch, step, workers), read in parts.items():
            by_rank = [[images for of, images in read if of == rank] for rank in range(workers)]
            attempts = [
                np.sort(np.concatenate(each)).tolist() for each in zip(*by_rank, strict=False)
            ]
            found.setdefault((epoch, step), {})[workers] = attempts
        return found

    def wait(self) -> None:
        """For the worker: spend the time."""
        if not self._hurry.exists():
            time.sleep(self.seconds)

    @property
    def _hurry(self) -> Path:
        return self.folder / "hurry"


class _Written:
    """A loader whose batches are written down, those of a step together."""

    def __init__(self, record: Record, loader: Loader, worker: Worker) -> None:
        self._record, self._loader, self._worker = record, loader, worker

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        worker, each = self._worker, len(self._worker.shares)
        images: list[int] = []
        with (self._record.folder / f"read-{os.getpid()}.jsonl").open("a", buffering=1) as file:
            for number, batch in enumerate(self._loader.epoch(epoch, start=start), start + 1):
                images += batch.indices.tolist()
                if number % each == 0:
                    step = number // each - 1
                    line = [epoch, step, worker.world_size, worker.rank, images]
                    file.write(json.dumps(line) + "\n")
                    images = []
                self._record.wait()
                yield batch


def _loop(record: Record, loop: Callable[[Worker, Any], None], worker: Worker, inputs: Any) -> None:
    of_training = worker.train_loader

    def written(*arguments: Any, **how: Any) -> Any:
        return _Written(record, of_training(*arguments, **how), worker)

    worker.train_loader = written  # type: ignore[method-assign]
    loop(worker, inputs)
