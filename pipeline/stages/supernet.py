"""Stage I on Ray Train: the supernet, by in-place bootstrapping."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dsnet
from dsnet import DSNet, InputError, Metadata, create_model
from dsnet.errors import DivergenceError
from dsnet.models.create import task_of
from dsnet.training import (
    bootstrap_step,
    distill_step,
    freeze,
    labels_step,
    make_teacher,
    random_widths,
    start_from,
    update_teacher,
    warmed_decay,
)
from dsnet.training.distributed import average
from dsnet.training.finite import first_not_finite
from pipeline.config import Config, Supernet
from pipeline.stages.stage import Stage, Upstream
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.epochs import Schedule, train_epochs
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.optimization import make_optimizer
from pipeline.training.state import Training
from pipeline.training.worker import Worker

SPEC = Spec(
    "supernet",
    revision=1,
    fields=(*PICTURES, "model", "cluster.workers", "supernet"),
    unread=("supernet.checkpoint_every", "supernet.from"),  # what it starts from is an input
    added=("supernet.freeze", "supernet.trunk_lr"),
)


@dataclass(frozen=True)
class Inputs:
    """What stage I reads."""

    train: Path
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
        return cls(dataset.train.beton, dataset.metadata(upstream.config), upstream.start)


def loop(worker: Worker, inputs: Inputs) -> None:
    """Train the student; what is kept, and handed on, is its moving average, the teacher."""
    section = worker.config.supernet
    student = new_model(worker.config, inputs.metadata)
    if inputs.start is not None:
        start_from(student, dsnet.load(inputs.start))
    student = student.to(worker.device).to(memory_format=torch.channels_last).train()
    # Stage II trains the slimming heads; here they have no gradient.
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    freeze(student, section.freeze)
    learning = [p for p in student.parameters() if p.requires_grad]
    teacher = make_teacher(student)
    state = Training(teacher, make_optimizer(learning, section, student.head), student)
    bootstrap = make_step(section, student, teacher)

    def step(images: Tensor, labels: Tensor, now: int) -> dict[str, Tensor]:
        with torch.autocast(worker.device.type, torch.bfloat16, enabled=section.amp):
            return bootstrap(images, labels, widths_of_step(worker, student, now))

    holdout = worker.holdout_loader(inputs.train, section.batch_size)
    for epoch in train_epochs(
        worker,
        state,
        worker.train_loader(inputs.train, section.batch_size),
        Schedule(
            section.epochs,
            section.lr,
            section.warmup_epochs,
            section.warmup_lr,
            section.clip_grad,
            section.checkpoint_every,
        ),
        step,
        seed=worker.seed,
        after_step=lambda now: update_teacher(teacher, student, warmed_decay(section.ema, now)),
    ):
        # Each worker has seen other images; from here on they agree on the statistics.
        average([*student.buffers(), *teacher.buffers()])
        epoch.losses.check(lambda name, step: width_of_loss(worker, student, name, step - 1))
        check_weights(student, teacher, epoch.images, epoch.steps)
        metrics: dict[str, Any] = {
            "epoch": state.epoch,
            "lr": epoch.lr,
            "loss": epoch.losses.means(),
        }
        if epoch.checkpoint:
            counts = evaluate(teacher, worker.batches(holdout.epoch(0), teacher), routed=False)
            metrics["holdout"] = by_width(counts.rows(teacher))
            metrics["evaluation"] = counts.to_dict()
            worker.report(metrics, state.save, final=epoch.last)
        else:
            worker.report(metrics)


STAGE = Stage(SPEC, Inputs, loop)


def widths_of_step(worker: Worker, student: DSNet, step: int) -> list[int]:
    """The random widths of a step, the same on every worker: gradients are summed into one step."""
    generator = torch.Generator().manual_seed(worker.config.seed * 1_000_003 + step)
    return random_widths(student, worker.config.supernet.random_widths, generator)


def width_of_loss(worker: Worker, student: DSNet, loss: str, step: int) -> str:
    """The width that a step's loss is of, for people: "random_0" -> "width 3"."""
    if loss.startswith("random_"):
        widths = widths_of_step(worker, student, step)
        return f"width {widths[int(loss.removeprefix('random_'))]}"
    return "the largest width" if loss == "largest" else "width 0, the smallest"


@torch.no_grad()
def check_weights(student: DSNet, teacher: DSNet, images: Tensor, step: int) -> None:
    """Raise DivergenceError if a weight or statistic of either network is not finite.

    It names the slimmest width whose output for `images` is not finite either.
    """
    for name, network in (("network", student), ("moving average", teacher)):
        if (tensor := first_not_finite(network.state_dict())) is None:
            continue
        outputs = {f"width {i}": network(images, width=i) for i in range(len(network.space))}
        outputs["the largest width"] = network(images, width=network.space.largest)
        width = first_not_finite(outputs) or "no width's output yet"
        raise DivergenceError(
            f"{tensor} of the {name} is not finite after step {step} (it reaches {width})"
        )


def new_model(config: Config, metadata: Metadata) -> DSNet:
    """A freshly initialised network for the data, the same on every worker."""
    model = config.model
    labelled = task_of(model.arch).labelled
    return create_model(
        model.arch,
        model.num_classes or (len(metadata.classes) if labelled else None),
        routes=model.routes,
        dropout=model.dropout,
        metadata=metadata,
    )


def make_step(
    section: Supernet, student: DSNet, teacher: DSNet
) -> Callable[[Tensor, Tensor, list[int]], dict[str, Tensor]]:
    """One batch of stage I (images, labels, random widths), by the method that the config names."""
    smoothing = section.label_smoothing
    if section.bootstrap == "labels":
        return partial(labels_step, student, label_smoothing=smoothing)
    if section.bootstrap == "distill":
        return partial(distill_step, student, label_smoothing=smoothing)
    return partial(
        bootstrap_step,
        student,
        teacher,
        ensemble=section.bootstrap == "ensemble",
        label_smoothing=smoothing,
    )
