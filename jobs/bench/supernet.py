"""Training steps of stage I: what sharing the prefix, the memory layout and the optimizer do."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet import DSNet, create_model
from dsnet.tasks import CLASSIFICATION
from dsnet.training import bootstrap_step, make_teacher, random_widths, update_teacher
from jobs.bench.interleaved import compare, throughput
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline.config import Supernet
from pipeline.training.optimization import make_optimizer

SECTION = Supernet()


@dataclass(frozen=True)
class Variant:
    """One way to take a step."""

    step: Callable[..., object] = bootstrap_step
    ensemble: bool = True
    layout: torch.memory_format = torch.channels_last
    fused: bool = True


PLAIN = Variant(ensemble=False)
ENSEMBLE = Variant()


@dataclass(frozen=True)
class Case:
    """A network and its images; `steps` of it are timed together."""

    arch: str
    classes: int
    resolution: int
    batch_size: int
    steps: int


def bench(options: Options) -> list[Record]:
    """Images per second in whole steps: losses, backward, optimizer and teacher.

    ds_mbnet at 96 pixels with 1000 classes and ds_mbnet_digits at 8 with 10; batches of 32 random
    images.
    """
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    cases = [Case("ds_mbnet", 1000, 96, 32, steps=1), Case("ds_mbnet_digits", 10, 8, 32, steps=8)]
    if options.quick:
        cases = [Case("ds_mbnet_digits", 10, 8, 2, steps=1)]
    return [record for case in cases for record in _compared(case, options.runs)]


def _compared(case: Case, runs: int) -> list[Record]:
    variants = {
        "plain, nothing shared": replace(PLAIN, step=unshared_step),
        "plain": PLAIN,
        "ensemble, nothing shared": replace(ENSEMBLE, step=unshared_step),
        "ensemble": ENSEMBLE,
        "ensemble, contiguous": replace(ENSEMBLE, layout=torch.contiguous_format),
        "ensemble, not fused": replace(ENSEMBLE, fused=False),
    }
    against = {
        "plain": "plain, nothing shared",
        "ensemble": "ensemble, nothing shared",
        "ensemble, contiguous": "ensemble",
        "ensemble, not fused": "ensemble",
    }
    images = case.steps * case.batch_size
    measures = {
        name: throughput(_training(case, variant), images) for name, variant in variants.items()
    }
    return compare(f"supernet {case.arch}", measures, against=against, runs=runs)


def _training(case: Case, variant: Variant) -> Callable[[], None]:
    """A student with its teacher and optimizer; each call takes `case.steps` steps."""
    torch.manual_seed(0)
    student = create_model(case.arch, case.classes).to(memory_format=variant.layout)
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    teacher = make_teacher(student)
    learning = [p for p in student.parameters() if p.requires_grad]
    optimizer = make_optimizer(learning, SECTION)
    for group in optimizer.param_groups:
        group["fused"] = variant.fused
    shape = (case.batch_size, 3, case.resolution, case.resolution)
    images = torch.randn(shape).to(memory_format=variant.layout)
    labels = torch.randint(case.classes, (case.batch_size,))
    widths = torch.Generator().manual_seed(0)  # the same ones in every variant

    def steps() -> None:
        for _ in range(case.steps):
            inner = random_widths(student, SECTION.random_widths, widths)
            optimizer.zero_grad()
            variant.step(
                student,
                teacher,
                images,
                labels,
                inner,
                ensemble=variant.ensemble,
                label_smoothing=SECTION.label_smoothing,
            )
            optimizer.step()
            update_teacher(teacher, student, SECTION.ema)

    student.train()
    return steps


def unshared_step(
    model: DSNet,
    teacher: DSNet,
    images: Tensor,
    labels: Tensor,
    random_widths: Sequence[int],
    ensemble: bool = True,
    label_smoothing: float = 0.0,
) -> None:
    """`dsnet.training.bootstrap_step` as the paper writes it: each width on its own, whole."""
    with torch.no_grad():
        target = CLASSIFICATION.soften(teacher(images, width=teacher.space.largest))
        seen = [target]
        if ensemble:
            seen += [CLASSIFICATION.soften(teacher(images, width=width)) for width in random_widths]
    logits = model(images, width=model.space.largest)
    F.cross_entropy(logits, labels, label_smoothing=label_smoothing).backward()
    for width in random_widths:
        CLASSIFICATION.distill(model(images, width=width), target).mean().backward()
    smallest = model(images, width=0)
    CLASSIFICATION.distill(smallest, torch.stack(seen).mean(0)).mean().backward()
