"""Stage I on Ray Train: the supernet, by in-place bootstrapping."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dsnet import DSNet, create_model
from dsnet.errors import DivergenceError
from dsnet.training import (
    LossMeter,
    average_gradients,
    bootstrap_step,
    distill_step,
    labels_step,
    make_teacher,
    random_widths,
    update_teacher,
    warmed_decay,
)
from dsnet.training.distributed import average
from dsnet.training.finite import first_not_finite
from pipeline.config import Supernet
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.optimization import learning_rate, make_optimizer, set_learning_rate
from pipeline.training.state import Training
from pipeline.training.worker import Worker

SPEC = Spec(
    "supernet",
    revision=1,
    fields=(*PICTURES, "model", "cluster.workers", "supernet"),
    unread=("supernet.checkpoint_every",),
)

Step = Callable[[Tensor, Tensor, list[int]], dict[str, Tensor]]


def loop(worker: Worker) -> None:
    """Train the student; what is kept, and handed on, is its moving average, the teacher.

    settings: "train", the beton; "metadata", the model's Metadata.
    """
    section = worker.config.supernet
    loader = worker.train_loader(section.batch_size)
    holdout = worker.holdout_loader(section.batch_size)
    student = new_model(worker).to(worker.device).to(memory_format=torch.channels_last)
    # Stage II trains the slimming heads; here they have no gradient.
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    learning = [p for p in student.parameters() if p.requires_grad]
    state = Training(make_teacher(student), make_optimizer(learning, section), student)
    worker.resume(state.restore)
    step = make_step(section, student, state.model)

    steps, warmup = section.epochs * len(loader), section.warmup_epochs * len(loader)
    student.train()
    while state.epoch < section.epochs:
        worker.seed(state.epoch)
        meter = LossMeter()
        for index, (images, labels) in enumerate(
            worker.batches(loader.epoch(state.epoch), student.metadata)
        ):
            now = state.epoch * len(loader) + index
            lr = learning_rate(now, steps, section.lr, warmup, section.warmup_lr)
            set_learning_rate(state.optimizer, lr)
            state.optimizer.zero_grad()
            with torch.autocast(worker.device.type, torch.bfloat16, enabled=section.amp):
                meter.add(now + 1, step(images, labels, widths_of_step(worker, student, now)))
            average_gradients(learning)
            if section.clip_grad is not None:
                torch.nn.utils.clip_grad_norm_(learning, section.clip_grad)
            state.optimizer.step()
            update_teacher(state.model, student, warmed_decay(section.ema, now))
            worker.progress(now + 1, steps)
        state.epoch += 1
        # Each worker has seen other images; from here on they agree on the statistics.
        average([*student.buffers(), *state.model.buffers()])
        meter.check(lambda name, step: width_of_loss(worker, student, name, step - 1))
        check_weights(student, state.model, images, now + 1)
        metrics: dict[str, Any] = {
            "epoch": state.epoch,
            "lr": lr,
            "loss": meter.means(),
        }
        if state.epoch % section.checkpoint_every == 0 or state.epoch == section.epochs:
            counts = evaluate(
                state.model, worker.batches(holdout.epoch(0), student.metadata), routed=False
            )
            metrics["holdout"] = by_width(counts.rows(state.model), student.task.headline)
            metrics["evaluation"] = counts.to_dict()
            worker.report(metrics, state.save, final=state.epoch == section.epochs)
        else:
            worker.report(metrics)


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


def new_model(worker: Worker) -> DSNet:
    """A freshly initialised network for the data, the same on every worker."""
    model, metadata = worker.config.model, worker.settings["metadata"]
    return create_model(
        model.arch,
        model.num_classes or len(metadata.classes),
        routes=model.routes,
        dropout=model.dropout,
        metadata=metadata,
    )


def make_step(section: Supernet, student: DSNet, teacher: DSNet) -> Step:
    """One batch of stage I, by the method that the config names."""
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
