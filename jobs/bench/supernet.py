"""Training steps of stage I, against the official procedure and without what makes them fast."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from dsnet import DSNet, create_model
from dsnet.tasks.registry import CLASSIFICATION
from dsnet.training import (
    GradientReducer,
    LossMeter,
    Snapshot,
    bootstrap_step,
    compiled_passes,
    make_teacher,
    not_finite,
    random_widths,
    update_teacher,
)
from dsnet.training.precision import cpu_multiplies
from jobs.bench.interleaved import Measure, compare, throughput
from jobs.bench.official import OfficialProcedure
from jobs.bench.options import Options
from jobs.bench.record import Record
from jobs.bench.team import Team
from pipeline.config import Supernet
from pipeline.training.optimization import make_optimizer, take_step

SECTION = Supernet()


@dataclass(frozen=True)
class Variant:
    """One way to take a step.

    official: the whole step as the official code takes it, whatever `step` and `ensemble` say.
    amp: bfloat16 where autocast has it. compiled: as `supernet.compile` has it. guarded: with what
    the training loop does beside, to count losses and to skip a step that is not finite.
    """

    step: Callable[..., dict[str, Tensor]] = bootstrap_step
    official: bool = False
    amp: bool = False
    ensemble: bool = True
    layout: torch.memory_format = torch.channels_last
    fused: bool = True
    compiled: bool = False
    guarded: bool = False


PLAIN = Variant(ensemble=False)
ENSEMBLE = Variant()
OFFICIAL = Variant(official=True, layout=torch.contiguous_format)


@dataclass(frozen=True)
class Case:
    """A network and its images; `steps` of it are timed together.

    draws: of random widths, taken in turn; None: each step has its own.
    """

    arch: str
    classes: int
    resolution: int
    batch_size: int
    steps: int
    draws: int | None = None


def bench(options: Options) -> list[Record]:
    """Images per second in whole steps: losses, backward, averaging, optimizer and teacher.

    ds_mbnet at 96 pixels with 1000 classes and ds_mbnet_digits at 8 with 10; batches of 32 random
    images for each worker. First in this process, then in two that have half of the threads each
    and average their gradients over gloo. Last, unless `quick`, with compiled passes, which take
    minutes to compile.
    """
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    cases = [Case("ds_mbnet", 1000, 96, 32, steps=1), Case("ds_mbnet_digits", 10, 8, 32, steps=8)]
    if options.quick:
        cases = [Case("ds_mbnet_digits", 10, 8, 2, steps=1)]
    records = []
    with group_of_one():
        for case in cases:
            records += _compared(case, options.runs)
    records += _compared_by_two(cases[0], options.runs, max(1, threads // 2))
    if not options.quick:
        with group_of_one():
            records += _compared_compiled(cases[0], options.runs)
    return records


def _compared(case: Case, runs: int) -> list[Record]:
    variants = {
        "official procedure": OFFICIAL,
        "plain, nothing shared": replace(PLAIN, step=unshared_step),
        "plain": PLAIN,
        "plain, guarded": replace(PLAIN, guarded=True),
        "ensemble, nothing shared": replace(ENSEMBLE, step=unshared_step),
        "ensemble": ENSEMBLE,
        "ensemble, contiguous": replace(ENSEMBLE, layout=torch.contiguous_format),
        "ensemble, not fused": replace(ENSEMBLE, fused=False),
    }
    if cpu_multiplies(torch.cpu.get_capabilities()):  # elsewhere it takes many times as long
        variants["plain, bfloat16"] = replace(PLAIN, amp=True)
    against = {
        "plain, nothing shared": "official procedure",
        "plain": "official procedure",
        "plain, guarded": "plain",
        "plain, bfloat16": "plain",
        "ensemble": "ensemble, nothing shared",
        "ensemble, contiguous": "ensemble",
        "ensemble, not fused": "ensemble",
    }
    return compare(f"supernet {case.arch}", _measures(case, variants), against=against, runs=runs)


def _compared_compiled(case: Case, runs: int) -> list[Record]:
    """One draw of random widths: every width is a graph, compiled in the round that warms up."""
    variants = {"official procedure": OFFICIAL, "plain": PLAIN}
    variants["plain, compiled"] = replace(PLAIN, compiled=True)
    measures = _measures(replace(case, draws=1), variants)
    group = f"supernet {case.arch}, one draw"
    return compare(group, measures, against="official procedure", runs=runs)


def _measures(case: Case, variants: dict[str, Variant]) -> dict[str, Measure]:
    images = case.steps * case.batch_size
    return {name: throughput(training(case, variant), images) for name, variant in variants.items()}


def _compared_by_two(case: Case, runs: int, threads: int) -> list[Record]:
    variants = {"official procedure": OFFICIAL, "plain": PLAIN}
    images = 2 * case.steps * case.batch_size
    with Team(2, threads, partial(trainings, case, variants)) as team:
        measures = {name: throughput(partial(team.call, name), images) for name in variants}
        return compare(
            f"supernet {case.arch}, two workers", measures, against="official procedure", runs=runs
        )


def trainings(case: Case, variants: dict[str, Variant]) -> dict[str, Callable[[], object]]:
    return {name: training(case, variant) for name, variant in variants.items()}


@contextmanager
def group_of_one() -> Iterator[None]:
    """DistributedDataParallel wants a process group, be it of this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{folder}/rendezvous"
        dist.init_process_group("gloo", init_method=where, rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def training(case: Case, variant: Variant) -> Callable[[], list[dict[str, Tensor]]]:
    """A student with its teacher and optimizer; each call takes `case.steps` steps.

    It returns each step's losses. Weights, images and widths are the same in every variant; in
    several workers, each has images of its own.
    """
    torch.manual_seed(0)
    student = create_model(case.arch, case.classes).to(memory_format=variant.layout)
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    teacher = make_teacher(student)
    learning = [p for p in student.parameters() if p.requires_grad]
    optimizer = make_optimizer(learning, SECTION)
    for group in optimizer.param_groups:
        group["fused"] = variant.fused and not variant.official
    rank = dist.get_rank() if dist.is_initialized() else 0
    generator = torch.Generator().manual_seed(rank)
    shape = (case.batch_size, 3, case.resolution, case.resolution)
    images = torch.randn(shape, generator=generator).to(memory_format=variant.layout)
    labels = torch.randint(case.classes, (case.batch_size,), generator=generator)
    widths = _draws(student, case.draws)
    smoothing = SECTION.label_smoothing
    student.train()
    if variant.official:
        official = OfficialProcedure(
            student, teacher, optimizer, ema=SECTION.ema, label_smoothing=smoothing
        )

    reducer = GradientReducer(learning)
    how: dict[str, Any] = {}
    if variant.compiled:
        how["passes"] = compiled_passes(case.batch_size, student, teacher)

    meter = LossMeter()

    def step() -> dict[str, Tensor]:
        inner = next(widths)
        if variant.official:
            return official.step(images, labels, inner)
        optimizer.zero_grad()
        before = Snapshot(list(student.buffers())) if variant.guarded else None
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.amp):
            losses = variant.step(
                student,
                teacher,
                images,
                labels,
                inner,
                ensemble=variant.ensemble,
                label_smoothing=smoothing,
                reducer=reducer,
                **how,
            )
        reducer.finish()
        if before is None:
            optimizer.step()
            update_teacher(teacher, student, SECTION.ema)
            return losses
        skip = not_finite([p.grad for p in learning if p.grad is not None])
        take_step(optimizer, skip)
        before.restore(skip)
        update_teacher(teacher, student, SECTION.ema, skip)
        meter.add(1, losses, skip)
        return losses

    return lambda: [step() for _ in range(case.steps)]


def _draws(student: DSNet, count: int | None) -> Iterator[list[int]]:
    """Random widths for step after step; `count` as `Case.draws`."""
    generator = torch.Generator().manual_seed(0)
    draws = (random_widths(student, SECTION.random_widths, generator) for _ in repeat(None))
    return draws if count is None else cycle(list(islice(draws, count)))


def unshared_step(
    model: DSNet,
    teacher: DSNet,
    images: Tensor,
    labels: Tensor,
    random_widths: Sequence[int],
    ensemble: bool = True,
    label_smoothing: float = 0.0,
    reducer: GradientReducer | None = None,
) -> dict[str, Tensor]:
    """`dsnet.training.bootstrap_step` as the paper writes it: each width on its own, whole.

    The reducer is not armed: gradients are averaged at the end.
    """
    with torch.no_grad():
        target = CLASSIFICATION.soften(teacher(images, width=teacher.space.largest))
        seen = [target]
        if ensemble:
            seen += [CLASSIFICATION.soften(teacher(images, width=width)) for width in random_widths]
    logits = model(images, width=model.space.largest)
    losses = {"largest": F.cross_entropy(logits, labels, label_smoothing=label_smoothing)}
    losses["largest"].backward()
    for index, width in enumerate(random_widths):
        loss = CLASSIFICATION.distill(model(images, width=width), target).mean()
        loss.backward()
        losses[f"random_{index}"] = loss
    smallest = model(images, width=0)
    losses["smallest"] = CLASSIFICATION.distill(smallest, torch.stack(seen).mean(0)).mean()
    losses["smallest"].backward()
    return {name: loss.detach() for name, loss in losses.items()}
