"""The loop over epochs and steps that stage I and stage II share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dsnet.training import GradientReducer, LossMeter
from pipeline.data.loader import Loader
from pipeline.training.optimization import learning_rate, set_learning_rate
from pipeline.training.state import Training
from pipeline.training.worker import Worker

Step = Callable[[Tensor, Tensor, int], dict[str, Tensor]]
"""Backward of one batch: normalised images (N, 3, H, W), labels (N,) and the number of steps before
it, to each loss of the step, a scalar. Gradients are summed into the parameters."""


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
    checkpoint_every: int = 1
    """Epochs from one checkpoint to the next."""


@dataclass(frozen=True)
class Epoch:
    """An epoch that has just been trained."""

    losses: LossMeter
    steps: int
    """Steps done since the beginning of the training."""
    lr: float
    """Learning rate of the last step."""
    images: Tensor
    """The last batch, as the network saw it."""
    last: bool
    """Whether the training is done."""
    checkpoint: bool
    """Whether a checkpoint is due; with the last epoch it always is."""


def train_epochs(
    worker: Worker,
    state: Training,
    loader: Loader,
    schedule: Schedule,
    step: Step,
    *,
    seed: Callable[[int], object],
    after_step: Callable[[int], object] = lambda step: None,
    reducer: GradientReducer | None = None,
) -> Iterator[Epoch]:
    """Train from the newest checkpoint on; what was trained, after each epoch.

    seed: called with the number of each epoch before its first batch, so that what it draws depends
    on nothing that came before it. after_step: called with the number of steps before the one that
    the optimizer has just taken. reducer: what `step` arms before its last backward pass; None for
    a step that does not. `state.epoch` counts an epoch by the time that it is yielded.
    """
    worker.resume(state.restore)
    learning = state.learning
    reducer = reducer or GradientReducer(learning)
    steps, warmup = schedule.epochs * len(loader), schedule.warmup_epochs * len(loader)
    while state.epoch < schedule.epochs:
        seed(state.epoch)
        losses = LossMeter()
        batches = worker.batches(loader.epoch(state.epoch), state.model)
        for now, (images, labels) in enumerate(batches, start=state.epoch * len(loader)):
            lr = learning_rate(now, steps, schedule.lr, warmup, schedule.warmup_lr)
            set_learning_rate(state.optimizer, lr)
            state.optimizer.zero_grad()
            losses.add(now + 1, step(images, labels, now))
            reducer.finish()
            if schedule.clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(learning, schedule.clip_grad)
            state.optimizer.step()
            after_step(now)
            worker.progress(now + 1, steps)
        state.epoch += 1
        last = state.epoch == schedule.epochs
        due = last or state.epoch % schedule.checkpoint_every == 0
        yield Epoch(losses, now + 1, lr, images, last, due)
