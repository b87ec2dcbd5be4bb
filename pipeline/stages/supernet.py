"""Stage I on Ray Train: the supernet, by in-place bootstrapping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.errors import DivergenceError
from dsnet.models.create import task_of
from dsnet.training import (
    GradientReducer,
    Passes,
    SupernetStep,
    compiled_passes,
    freeze,
    make_teacher,
    prepare_compiler,
    random_widths,
    start_from,
    update_teacher,
    warmed_decay,
)
from dsnet.training.distributed import average
from dsnet.training.finite import first_not_finite
from dsnet.training.precision import bfloat16_pays
from pipeline.config import Config, Supernet
from pipeline.data.manifest import Beton
from pipeline.stages.network import new_network
from pipeline.stages.stage import Stage, Upstream
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.epochs import Algorithm, Schedule, train_epochs
from pipeline.training.evaluation import EvaluationRow
from pipeline.training.held_out import HeldOut
from pipeline.training.optimization import make_optimizer
from pipeline.training.state import MODEL, BestEvaluation, Training
from pipeline.training.worker import Worker

SPEC = Spec(
    "supernet",
    revision=2,
    fields=(*PICTURES, "data.sampling", "model", "cluster.workers", "supernet"),
    unread=(
        "supernet.checkpoint_every",
        "supernet.checkpoint_steps",
        "supernet.checkpoint_minutes",
        "supernet.from",  # what it starts from is an input
    ),
)


@dataclass(frozen=True)
class Inputs:
    """What stage I reads."""

    train: Beton
    """The training images' beton."""
    metadata: Metadata
    """How the network will prepare images, and what its answers mean."""
    start: Path | None = None
    """Model directory whose weights it starts from; None: from random ones."""

    @classmethod
    def of(cls, upstream: Upstream) -> "Inputs":
        """The training images, what a model must know of them, and what it starts from.

        Raises InputError where the config names a starting point and there is none upstream.
        """
        dataset, named = upstream.dataset, upstream.config.supernet.from_
        if named is not None and upstream.start is None:
            raise InputError(
                f"supernet.from: expected none, as this trains from random weights, found {named}"
            )
        return cls(dataset.train.place, dataset.metadata(upstream.config), upstream.start)


def loop(worker: Worker, inputs: Inputs) -> None:
    """Train the student; what is kept, and handed on, is its moving average, the teacher."""
    section = worker.config.supernet
    student = new_model(worker.config, inputs.metadata)
    if inputs.start is not None:
        start_from(student, dsnet.load(inputs.start))
    student = student.to(worker.device).to(memory_format=torch.channels_last).train()
    learning = learners(section, student)
    teacher = make_teacher(student)
    optimizer = make_optimizer(learning, section, student.head)
    state = Training(teacher, optimizer, student, rank=worker.rank, world_size=worker.world_size)
    held_out = HeldOut(worker, inputs.train, teacher)
    if inputs.start is not None:
        held_out.start()
    side = partial(resolution_of_epoch, worker.config)
    for epoch in train_epochs(
        worker,
        state,
        worker.train_loader(inputs.train, section.batch_size, mix=True, resolution_of=side),
        schedule(section),
        Bootstrapping(worker, student, teacher, held_out),
    ):
        metrics: dict[str, Any] = {
            "epoch": state.epoch,
            "lr": epoch.lr,
            "loss": epoch.losses,
            "skipped": epoch.skipped,
            "throughput": epoch.throughput,
        }
        if section.resolution_from is not None:
            metrics["resolution"] = side(state.epoch - 1)
        figure = None
        if epoch.evaluate or epoch.early:
            rows, measured = held_out.measure()
            metrics |= measured
            when = f"epoch {state.epoch} of {section.epochs}"
            held_out.tell(when, rows, epoch.steps, epoch.total, early=epoch.early)
            if epoch.evaluate:
                figure = headline(rows, teacher)
                remember(state, figure, metrics)
        patience = section.patience
        last = epoch.last or (patience is not None and state.stale >= patience)
        if last and patience is not None and state.stale:
            metrics |= hand_on_best(worker, state)
            figure = None
        if last:
            held_out.end(metrics["evaluation"])
        save = last or epoch.checkpoint or (patience is not None and figure is not None)
        worker.report(
            metrics, state.snapshot(worker.gather_bytes) if save else None, final=last, best=figure
        )
        if last:
            return


class Bootstrapping(Algorithm):
    """Stage I: a step trains the widest, the slimmest and random widths; the teacher follows."""

    def __init__(
        self, worker: Worker, student: DSNet, teacher: DSNet, held_out: HeldOut | None = None
    ) -> None:
        self.worker, self.student, self.teacher = worker, student, teacher
        self.held_out = held_out
        self.batch_step = make_step(worker.config.supernet, student, teacher, worker.device)

    def step(
        self, images: Tensor, labels: Tensor, number: int, reducer: GradientReducer | None
    ) -> dict[str, Tensor]:
        return self.batch_step(images, labels, self.widths(number), reducer)

    def widths(self, number: int) -> list[int]:
        """A step's random widths, the same on every worker: gradients are summed into one step."""
        config = self.worker.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
        return random_widths(self.student, config.supernet.random_widths, generator)

    def seed(self, epoch: int) -> None:
        self.worker.seed(epoch)

    def after_step(self, number: int, skip: Tensor) -> None:
        decay = warmed_decay(self.worker.config.supernet.ema, number)
        update_teacher(self.teacher, self.student, decay, skip)

    def look(self, done: int, total: int) -> None:
        if self.held_out is not None:
            self.held_out.look(done, total)

    def end_epoch(self) -> None:
        # Each worker has seen other images; from here on they agree on the statistics.
        average([*self.student.buffers(), *self.teacher.buffers()])

    def describe(self, loss: str, step: int) -> str:
        """The width that a loss is of: "random_0" -> "width 3"."""
        if loss.startswith("random_"):
            return f"width {self.widths(step - 1)[int(loss.removeprefix('random_'))]}"
        return "the largest width" if loss == "largest" else "width 0, the smallest"

    @torch.no_grad()
    def check(self, images: Tensor, steps: int) -> None:
        """Raise DivergenceError if a weight or statistic of either network is not finite.

        It names the slimmest width whose output for `images` is not finite either.
        """
        for name, network in (("network", self.student), ("moving average", self.teacher)):
            if (tensor := first_not_finite(network.state_dict())) is None:
                continue
            outputs = {f"width {i}": network(images, width=i) for i in range(len(network.space))}
            outputs["the largest width"] = network(images, width=network.space.largest)
            width = first_not_finite(outputs) or "no width's output yet"
            raise DivergenceError(
                f"{tensor} of the {name} is not finite after step {steps} (it reaches {width})"
            )


def schedule(section: Supernet) -> Schedule:
    """How long and how fast, from the section's fields of the same names."""
    return Schedule(
        section.epochs,
        section.lr,
        section.warmup_epochs,
        section.warmup_lr,
        section.clip_grad,
        section.accumulate,
        section.checkpoint_every,
        section.checkpoint_steps,
        section.checkpoint_minutes,
        section.evaluate_every,
        one_cycle=section.schedule == "one_cycle",
    )


def resolution_of_epoch(config: Config, epoch: int) -> int:
    """Side in pixels of the epoch of that number: rises by a line, in steps of 8."""
    section, full = config.supernet, config.data.resolution
    first, rises = section.resolution_from, section.resolution_until * section.epochs
    if first is None or epoch >= min(rises, section.epochs - 1):
        return full
    gained = (full - first) * epoch / rises
    return min(full, first + 8 * round(gained / 8))


def headline(rows: Sequence[EvaluationRow], model: DSNet) -> float:
    """The headline measure's mean over all sub-networks, signed so that higher is better."""
    mean = sum(row.value for row in rows) / len(rows)
    return mean if model.task.headline.rises else -mean


def remember(state: Training, figure: float, metrics: dict[str, Any]) -> None:
    """Count an evaluation: as the best so far, or as one more without improvement."""
    if state.best is not None and figure <= state.best.figure:
        state.stale += 1
        return
    evaluated = {name: metrics[name] for name in ("holdout", "evaluation")}
    state.best, state.stale = BestEvaluation(figure, state.epoch, evaluated), 0


def hand_on_best(worker: Worker, state: Training) -> dict[str, Any]:
    """Put the best evaluated weights in place of the last; what was reported of them."""
    folder = worker.best()
    if folder is None or state.best is None:
        raise RuntimeError("expected a whole checkpoint of the best evaluation, found none")
    state.model.load_state_dict(dsnet.load(folder / MODEL).state_dict())
    return {**state.best.metrics, "best_epoch": state.best.epoch}


STAGE = Stage(SPEC, Inputs, loop)


def new_model(config: Config, metadata: Metadata) -> DSNet:
    """A freshly initialised network for the data, the same on every worker."""
    labelled = task_of(config.model.arch).labelled
    return new_network(config, len(metadata.classes) if labelled else None, metadata)


def learners(section: Supernet, student: DSNet) -> list[nn.Parameter]:
    """What stage I trains; everything else has no gradient from here on.

    Stage II trains the slimming heads, and what the section freezes nobody.
    """
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    freeze(student, section.freeze)
    return [p for p in student.parameters() if p.requires_grad]


def make_step(
    section: Supernet, student: DSNet, teacher: DSNet, device: torch.device
) -> SupernetStep:
    """One batch of stage I, as the section says.

    Raises InputError where passes are to be compiled and this machine has no compiler.
    """
    passes: Callable[[DSNet], Passes] = Passes
    if section.compile:
        prepare_compiler(device)
        passes = compiled_passes(section.batch_size, student, teacher)
    amp = section.amp
    if amp == "auto":
        amp = bfloat16_pays(student.architecture, device)
    return SupernetStep(
        student,
        teacher,
        section.bootstrap,
        section.label_smoothing,
        guarded=True,
        passes=passes,
        bfloat16=amp,
    )
