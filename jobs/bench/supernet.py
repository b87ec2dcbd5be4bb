"""Training steps of stage I, compared with the official procedure."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dsnet import DSNet, create_model
from dsnet.training import (
    GradientReducer,
    bootstrap_step,
    compiled_passes,
    make_teacher,
    random_widths,
    update_teacher,
)
from dsnet.training.precision import cpu_multiplies
from jobs.bench.interleaved import compare, throughput
from jobs.bench.official import OfficialProcedure
from jobs.bench.options import Options
from jobs.bench.record import Record
from jobs.bench.team import team
from pipeline.config import Supernet
from pipeline.training.optimization import make_optimizer

SECTION = Supernet()


@dataclass(frozen=True)
class Variant:
    """One way to take a step."""

    official: bool = False
    """The whole step as the official code takes it, which is always plain."""
    ensemble: bool = False
    amp: bool = False
    """bfloat16 where autocast has it."""
    compiled: bool = False
    """As `supernet.compile` has it."""


PLAIN = Variant()
OFFICIAL = Variant(official=True)


@dataclass(frozen=True)
class Case:
    """A network and its images."""

    arch: str
    classes: int
    resolution: int
    batch_size: int
    steps: int
    """That are timed together."""
    draws: int | None = None
    """Of random widths, taken in turn; None: each step has its own."""


def bench(options: Options) -> list[Record]:
    """Images per second in whole steps: losses, backward, averaging, optimizer and teacher.

    ds_mbnet at 96 pixels with 1000 classes and ds_mbnet_digits at 8 with 10; batches of 32 random
    images for each worker. First in this process; unless `quick` also with compiled passes, which
    take minutes to compile; then in two processes that have half of the threads each and average
    their gradients over gloo.
    """
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    cases = [Case("ds_mbnet", 1000, 96, 32, steps=1), Case("ds_mbnet_digits", 10, 8, 32, steps=8)]
    if options.quick:
        cases = [Case("ds_mbnet_digits", 10, 8, 2, steps=1)]
    official, case = {"official procedure": OFFICIAL, "plain": PLAIN}, cases[0]
    variants = official | {"ensemble": replace(PLAIN, ensemble=True)}
    if cpu_multiplies(torch.cpu.get_capabilities()):  # elsewhere it takes many times as long
        variants["plain, bfloat16"] = replace(PLAIN, amp=True)
    records = []
    with group_of_one():
        for each in cases:
            records += _compared(f"supernet {each.arch}", each, variants, options.runs)
        if not options.quick:
            # Every width is a graph, compiled in the round that warms up.
            group, one = f"supernet {case.arch}, one draw", replace(case, draws=1)
            compiled = official | {"plain, compiled": replace(PLAIN, compiled=True)}
            records += _compared(group, one, compiled, options.runs)
    group, images = f"supernet {case.arch}, two workers", 2 * case.steps * case.batch_size
    with team(2, max(1, threads // 2), partial(trainings, case, official)) as call:
        measures = {name: throughput(partial(call, name), images) for name in official}
        return records + compare(group, measures, against="official procedure", runs=options.runs)


def _compared(group: str, case: Case, variants: dict[str, Variant], runs: int) -> list[Record]:
    images = case.steps * case.batch_size
    measures = {name: throughput(take, images) for name, take in trainings(case, variants).items()}
    against = dict.fromkeys(variants, "plain") | {"plain": "official procedure"}
    del against["official procedure"]
    return compare(group, measures, against=against, runs=runs)


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
    layout = torch.contiguous_format if variant.official else torch.channels_last
    student = create_model(case.arch, case.classes).to(memory_format=layout)
    for parameter in student.slimming_parameters():
        parameter.requires_grad_(False)
    teacher = make_teacher(student)
    learning = [p for p in student.parameters() if p.requires_grad]
    optimizer = make_optimizer(learning, SECTION)
    for group in optimizer.param_groups:
        group["fused"] = not variant.official
    rank = dist.get_rank() if dist.is_initialized() else 0
    generator = torch.Generator().manual_seed(rank)
    shape = (case.batch_size, 3, case.resolution, case.resolution)
    images = torch.randn(shape, generator=generator).to(memory_format=layout)
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

    def step() -> dict[str, Tensor]:
        inner = next(widths)
        if variant.official:
            return official.step(images, labels, inner)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.amp):
            losses = bootstrap_step(
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
        optimizer.step()
        update_teacher(teacher, student, SECTION.ema)
        return losses

    return lambda: [step() for _ in range(case.steps)]


def _draws(student: DSNet, count: int | None) -> Iterator[list[int]]:
    """Random widths for step after step; `count` as `Case.draws`."""
    generator = torch.Generator().manual_seed(0)
    draws = (random_widths(student, SECTION.random_widths, generator) for _ in repeat(None))
    return draws if count is None else cycle(list(islice(draws, count)))
