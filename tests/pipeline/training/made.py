"""A training small enough to be stopped at every step: pictures in memory, a network of a few
channels, the loop and the worker as they are."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dsnet import DSNet
from dsnet.models.architecture import Architecture
from dsnet.training import GradientReducer, make_teacher
from pipeline.config import Config, config_from_dict
from pipeline.data.loading.batch import Batch
from pipeline.stages import supernet
from pipeline.training.epochs import Algorithm, Epoch, Schedule, train_epochs
from pipeline.training.local_worker import LocalWorker
from pipeline.training.optimization import make_optimizer
from pipeline.training.state import Training
from tests.dsnet.conftest import ARCHITECTURES

BATCHES = 4


class Stopped(Exception):
    """As a machine that is taken away."""


class Pictures:
    """As a loader: batches that follow from rank, epoch and number; of several ranks in turn."""

    def __init__(self, ranks: Sequence[int] = (0,)) -> None:
        self.ranks = ranks

    def __len__(self) -> int:
        return BATCHES * len(self.ranks)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for place in range(start, len(self)):
            number, rank = divmod(place, len(self.ranks))
            seed = 100 * self.ranks[rank] + 10 * epoch + number
            generator = torch.Generator().manual_seed(seed)
            images = torch.randint(0, 256, (4, 16, 16, 3), generator=generator).to(torch.uint8)
            labels = torch.randint(0, 5, (4,), generator=generator)
            yield Batch(images, labels, torch.arange(4), torch.arange(4))


class RankWorker(LocalWorker):
    """One of several processes that torch.distributed joins."""

    def __init__(self, config: Config, directory: Path, rank: int, world_size: int) -> None:
        super().__init__(config, directory)
        self.rank, self.world_size = rank, world_size

    def report(self, metrics: dict[str, Any], *arguments: Any, **how: Any) -> None:
        if self.rank == 0:
            super().report(metrics, *arguments, **how)
        dist.barrier()


def small_config(optimizer: str = "sgd", **fields: Any) -> Config:
    """Two epochs of stage I."""
    section = {"epochs": 2, "warmup_epochs": 1, "optimizer": optimizer, "lr": 0.05, "ema": 0.9}
    minutes = {"checkpoint_minutes": None, "checkpoint_steps": None}
    return config_from_dict({"supernet": section | minutes | fields})


@dataclass
class Made:
    """A training, and what became of it."""

    worker: LocalWorker
    state: Training
    algorithm: Algorithm
    schedule: Schedule
    reports: list[dict[str, Any]]
    loader: Any

    def run(self) -> "Made":
        """To its end."""
        for epoch in train_epochs(
            self.worker, self.state, self.loader, self.schedule, self.algorithm
        ):
            self.reports.append(told(epoch))
            write = self.state.snapshot(self.worker.gather_bytes) if epoch.checkpoint else None
            self.worker.report(told(epoch), write)
        return self

    def everything(self) -> dict[str, Tensor]:
        """All tensors, by name: copies."""
        assert self.state.student is not None
        networks = {"student": self.state.student, "teacher": self.state.model}
        named = {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}
        for index, values in self.state.optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{index}.{key}": v for key, v in values.items() if v is not None}
        return copy.deepcopy(named)

    def stopped_after(self, steps: int) -> "Made":
        """The same, but it is gone after so many steps."""
        inner = self.algorithm.step

        def step(
            images: Tensor, labels: Tensor, now: int, reducer: GradientReducer | None
        ) -> dict[str, Tensor]:
            if now == steps:
                raise Stopped
            return inner(images, labels, now, reducer)

        self.algorithm.step = step  # type: ignore[method-assign]
        return self

    def poisoned(self, wrong: Callable[[int], bool]) -> "Made":
        """The same, but in some steps, by the number of those before it, images are not numbers."""
        inner = self.algorithm.step

        def step(
            images: Tensor, labels: Tensor, now: int, reducer: GradientReducer | None
        ) -> dict[str, Tensor]:
            return inner(images * float("nan") if wrong(now) else images, labels, now, reducer)

        self.algorithm.step = step  # type: ignore[method-assign]
        return self


def told(epoch: Epoch) -> dict[str, Any]:
    """What an epoch reports, without what a clock says."""
    return {"losses": epoch.losses, "skipped": epoch.skipped, "steps": epoch.steps, "lr": epoch.lr}


def made(
    directory: Path,
    config: Config,
    arch: str | Architecture = "mbnet with one gate",
    layout: torch.memory_format = torch.channels_last,
    worker: Callable[[Config, Path], LocalWorker] = LocalWorker,
    dropout: float = 0.5,
) -> Made:
    """A fresh training, the same for the same arguments."""
    at_work = worker(config, directory)
    torch.manual_seed(0)
    architecture = ARCHITECTURES[arch] if isinstance(arch, str) else arch
    network = replace(architecture, num_classes=5, resolution=16, dropout=dropout)
    student = DSNet(network).train().to(memory_format=layout)
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    learning = [p for p in student.parameters() if p.requires_grad]
    teacher = make_teacher(student)
    section = config.supernet
    ranks = {"rank": at_work.rank, "world_size": at_work.world_size}
    state = Training(teacher, make_optimizer(learning, section), student, **ranks)
    return Made(
        at_work,
        state,
        supernet.Bootstrapping(at_work, student, teacher),
        supernet.schedule(section),
        [],
        Pictures(at_work.shares),
    )


def differing(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """The names of tensors that are not the same, bit for bit."""
    assert expected.keys() == found.keys()
    return [name for name in expected if not torch.equal(expected[name], found[name])]


def rank_of(rank: int, world_size: int) -> Callable[[Config, Path], LocalWorker]:
    """That worker of several, in a process that joins the others'."""
    return lambda config, directory: RankWorker(config, directory, rank, world_size)


def joined(rank: int, world_size: int, folder: Path) -> None:
    """This process is one of so many that meet in the folder."""
    torch.set_num_threads(1)
    meet = f"file://{folder / 'meet'}"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world_size)


def on_rank(rank: int, folder: Path, stop: int) -> None:
    """Two ranks: undisturbed; stopped after `stop` steps; gone on. What differs, into a file."""
    joined(rank, 2, folder)
    worker = rank_of(rank, 2)
    config = small_config(checkpoint_steps=1)
    whole = made(folder / "whole", config, worker=worker).run()
    try:
        made(folder / "parts", config, worker=worker).stopped_after(stop).run()
    except Stopped:
        dist.barrier()
    resumed = made(folder / "parts", config, worker=worker).run()
    told = {
        "differing": differing(whole.everything(), resumed.everything()),
        "reports": resumed.reports == whole.reports[-len(resumed.reports) :],
    }
    (folder / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()
