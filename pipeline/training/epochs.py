"""The loop over epochs and steps that stage I and stage II share."""

import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsnet.errors import DivergenceError
from dsnet.training import GradientReducer, LossMeter, Snapshot, not_finite
from pipeline.training.intervals import Intervals
from pipeline.training.optimization import (
    learning_rate,
    one_cycle,
    set_learning_rate,
    take_step,
)
from pipeline.training.prefetch import prefetched
from pipeline.training.state import Training, Write
from pipeline.training.throughput import Throughput
from pipeline.training.worker import Worker

if TYPE_CHECKING:  # it brings FFCV, and drivers import this module
    from pipeline.data.loading.loader import Loader

logger = logging.getLogger(__name__)

SLOWER = 0.5
"""Factor of the learning rate with which a training that went wrong goes back, once."""


@dataclass(frozen=True)
class Schedule:
    """How long a stage trains, and how fast."""

    epochs: int
    lr: float
    """Learning rate after the warm-up; it falls by a cosine."""
    warmup_epochs: int = 0
    warmup_lr: float = 0.0
    clip_grad: float | None = None
    """Largest gradient norm; None: not clipped."""
    accumulate: int = 1
    """Batches whose gradients are averaged before each step."""
    checkpoint_every: int = 1
    """Epochs from one checkpoint to the next."""
    checkpoint_steps: int | None = None
    """Steps from one checkpoint to the next within an epoch; None: not by steps."""
    checkpoint_minutes: float | None = None
    """Minutes from one checkpoint to the next within an epoch; None: not by time."""
    evaluate_every: int | None = None
    """Epochs from one evaluation to the next; None: as checkpoints."""
    one_cycle: bool = False
    """Whether the learning rate takes one_cycle's course, which has no other warm-up."""

    @property
    def early(self) -> int:
        """The last epoch within the first third of them that ends with an evaluation; 0: none.

        Where none is due by then there is one more.
        """
        third, every = self.epochs // 3, self.evaluate_every or self.checkpoint_every
        return third - third % every or third

    def learning_rate(self, step: int, steps_of_epoch: int) -> float:
        """The learning rate of the step of that number, counted from 0."""
        steps = self.epochs * steps_of_epoch
        if self.one_cycle:
            return one_cycle(step, steps, self.lr)
        warmup = self.warmup_epochs * steps_of_epoch
        return learning_rate(step, steps, self.lr, warmup, self.warmup_lr)


@dataclass(frozen=True)
class Epoch:
    """An epoch that has just been trained."""

    losses: dict[str, float]
    """Mean of each over the steps that were taken, on this worker."""
    skipped: int
    """Steps that were not taken, for their gradients were not finite."""
    throughput: dict[str, float]
    steps: int
    """Steps done since the beginning of the training."""
    total: int
    """Steps of the whole training."""
    lr: float
    """Learning rate of the last step."""
    last: bool
    """Whether the training is done."""
    checkpoint: bool
    """Whether a checkpoint is due; with the last epoch it always is."""
    evaluate: bool
    """Whether an evaluation is due; with the last epoch it always is."""
    early: bool
    """Whether this is the last epoch before a third of the steps is done at which to look how it
    goes, whatever is due."""


class Algorithm(ABC):
    """What one of the paper's two trainings does in a step, and what it does between steps."""

    @abstractmethod
    def step(
        self, images: Tensor, labels: Tensor, number: int, reducer: GradientReducer | None
    ) -> dict[str, Tensor]:
        """Backward of one batch, to each loss of the step, a scalar.

        images: normalised (N, 3, H, W); labels: (N,). number: of the steps before it. Gradients are
        summed into the parameters. reducer: given with the last batch of a step, for it to arm
        before its last backward pass.
        """

    @abstractmethod
    def seed(self, epoch: int) -> None:
        """Called before an epoch's first batch: what it draws depends on nothing before it."""

    @abstractmethod
    def check(self, images: Tensor, steps: int) -> None:
        """Raise DivergenceError if what was trained is not finite.

        Called before checkpoints and at the end of each epoch with the last batch of images and the
        number of steps done.
        """

    @abstractmethod
    def describe(self, loss: str, step: int) -> str:
        """What to call a loss in the step of that number, counted from 1."""

    def after_step(self, number: int, skip: Tensor) -> None:  # noqa: B027  need not do anything
        """Called after a step with the number of steps before it. skip: scalar, 1 if skipped."""

    def look(self, done: int, total: int) -> None:  # noqa: B027
        """Called once, when a third of all steps is done, if no epoch ends by then."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after an epoch's last step, for workers to agree on what each has for itself."""


def train_epochs(
    worker: Worker, state: Training, loader: "Loader", schedule: Schedule, algorithm: Algorithm
) -> Iterator[Epoch]:
    """Train from the newest checkpoint on; yields each epoch after it was trained.

    `state.epoch` counts an epoch by the time that it is yielded. A step whose averaged gradients
    are not finite is skipped on every worker alike. Where there are too many of these, or weights
    are not finite, the training goes back to its newest checkpoint, or its beginning, with half the
    learning rate. Raises DivergenceError where that was done before.
    """
    worker.resume(state.restore)
    # Where a training that diverges goes back to if it has no checkpoint yet.
    start = state.snapshot(worker.gather_bytes)
    training = _Loop(worker, state, loader, schedule, algorithm)
    while state.epoch < schedule.epochs:
        try:
            epoch = training.epoch()
        except DivergenceError as error:
            _go_back(worker, state, start, error)
            continue
        yield epoch


class _Loop:
    """One epoch after another, from where `state` is."""

    def __init__(
        self,
        worker: Worker,
        state: Training,
        loader: "Loader",
        schedule: Schedule,
        algorithm: Algorithm,
    ) -> None:
        self.worker, self.state, self.loader = worker, state, loader
        self.schedule, self.algorithm = schedule, algorithm
        self.learning = state.learning
        self.reducer = GradientReducer(self.learning)
        self.batches = schedule.accumulate * len(worker.shares)  # in a step, of this worker
        self.workers = worker.step_shares / len(worker.shares)  # as if all had as much as this one
        self.steps = -(-len(loader) // self.batches)  # in an epoch
        self.total = schedule.epochs * self.steps
        self.intervals = Intervals(worker, schedule.checkpoint_steps, schedule.checkpoint_minutes)

    def epoch(self) -> Epoch:
        state, schedule, algorithm = self.state, self.schedule, self.algorithm
        if not state.step:
            state.losses = LossMeter()  # else these are the sums of the steps before the checkpoint
        # Seeded also where the epoch is resumed in its middle: some numbers follow from its seed
        # alone. Then the generators are put to where they stood at the checkpoint.
        algorithm.seed(state.epoch)
        state.go_on_drawing()
        throughput = Throughput(self.worker.device)
        # The order follows from (seed, epoch), so the batches before the checkpoint are skipped by
        # their count, without being read.
        batches = self.loader.epoch(state.epoch, start=state.step * self.batches)
        pairs = throughput.waited_for(
            prefetched(self.worker.batches(batches, state.model), self.worker.device)
        )
        lr, images = 0.0, None
        while group := list(islice(pairs, self.batches)):
            now = state.epoch * self.steps + state.step
            lr = self._step(group, now, throughput)
            images = group[-1][0]
            state.step += 1
            self._after(now + 1, images, lr, throughput)
        done = state.epoch * self.steps + state.step
        algorithm.end_epoch()
        state.losses.check(self.steps, algorithm.describe)
        if images is not None:
            self._check(images, done)
        state.epoch, state.step = state.epoch + 1, 0
        last = state.epoch == schedule.epochs
        checkpoint = last or state.epoch % schedule.checkpoint_every == 0
        every = schedule.evaluate_every
        return Epoch(
            state.losses.means(),
            state.losses.skipped,
            throughput.figures(self.workers),
            done,
            self.total,
            lr,
            last,
            checkpoint,
            checkpoint if every is None else last or state.epoch % every == 0,
            state.epoch == schedule.early,
        )

    def _step(self, group: list[tuple[Tensor, Tensor]], now: int, throughput: Throughput) -> float:
        """One step of the optimizer, on one batch or the mean of several; its learning rate."""
        state, schedule, optimizer = self.state, self.schedule, self.state.optimizer
        lr = schedule.learning_rate(now, self.steps) * state.lr_scale
        set_learning_rate(optimizer, lr)
        optimizer.zero_grad()
        statistics = Snapshot(state.buffers)
        *others, last = group
        losses = [self.algorithm.step(*pair, now, None) for pair in others]
        losses.append(self.algorithm.step(*last, now, self.reducer))
        with throughput.averaging():
            self.reducer.finish()
        gradients = [p.grad for p in self.learning if p.grad is not None]
        # The workers' mean is of their sums, of unequally many batches where shares are not even.
        batches = len(group) * self.workers / self.worker.world_size
        if batches != 1:
            torch._foreach_div_(gradients, batches)
        skip = not_finite(gradients)
        if schedule.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.learning, schedule.clip_grad)
        take_step(optimizer, skip)
        statistics.restore(skip)
        self.algorithm.after_step(now, skip)
        state.losses.add(now + 1, _mean(losses), skip)
        throughput.count(sum(len(images) for images, _ in group))
        return lr

    def _after(self, done: int, images: Tensor, lr: float, throughput: Throughput) -> None:
        """After a step: at intervals, look whether all is well, tell it, and make a checkpoint."""
        state, worker = self.state, self.worker
        total = self.total
        if done == total // 3 and not self.schedule.early:
            self.algorithm.look(done, total)
        if state.step == self.steps:
            worker.progress(done, total)
            return  # what ends with an epoch is due anyway
        due = self.intervals.after(state.step)
        if not due.look:
            worker.progress(done, total)
            return
        state.losses.check(self.steps, self.algorithm.describe)
        worker.progress(
            done,
            total,
            **state.losses.means(),
            images_per_second=throughput.images_per_second * self.workers,
            share_waiting_for_data=throughput.share_waiting_for_data,
            lr=lr,
        )
        if due.checkpoint:
            self._check(images, done)  # no checkpoint holds what another start could not train on
            worker.report({}, state.snapshot(worker.gather_bytes))
        if due.leave:
            worker.leave()

    def _check(self, images: Tensor, done: int) -> None:
        """Raise DivergenceError on every rank alike if what any of them trained is not finite."""
        found = ""
        try:
            self.algorithm.check(images, done)
        except DivergenceError as error:
            found = str(error)
        said = (text.decode() for text in self.worker.gather_bytes(found.encode()))
        if found := next(filter(None, said), ""):
            raise DivergenceError(found)


def _mean(losses: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of each loss over the batches of one step."""
    if len(losses) == 1:
        return losses[0]
    return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}


def _go_back(worker: Worker, state: Training, start: Write, error: DivergenceError) -> None:
    """To the newest checkpoint, or to `start`, with half the learning rate; once."""
    if state.lr_scale < 1:
        raise error
    with tempfile.TemporaryDirectory() as name:
        start(Path(name))
        state.restore(Path(name))
    worker.resume(state.restore)
    if state.lr_scale < 1:  # the checkpoint was written after an earlier process went back
        raise error
    state.lr_scale = SLOWER
    if worker.rank == 0:
        logger.warning(
            "%s: back to epoch %d, step %d, with half the learning rate",
            error,
            state.epoch,
            state.step,
        )
    # So that it stays once: a training that is killed from here on goes on with this.
    worker.report({}, state.snapshot(worker.gather_bytes))
