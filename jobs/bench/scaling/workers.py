"""Workers on this machine with a real network's gradients: what they send, and for how long.

Bytes are counted twice. At the collectives: what `GradientReducer` hands to each all-reduce. On the
wire: what the kernel says that the process has written (`wchar` of /proc/self/io), which in gloo's
transport is its sockets alone, headers of TCP and IP not among it.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dsnet import DSNet, create_model
from dsnet.training import GradientReducer, bootstrap_step, make_teacher, random_widths
from jobs.bench.interleaved import Figure
from jobs.bench.scaling.all_reduce import rounds
from jobs.bench.team import Team

ALONE, AT_END, AS_IT_GOES = "step alone", "step, sent at its end", "step, sent as it goes"
REDUCTION, TRAFFIC = "reduction", "traffic"
TIMED = (ALONE, AT_END, AS_IT_GOES, REDUCTION)
# Of gloo's TCP transport in torch 2.15: bytes before each message, messages for each segment (the
# data, and that each side is ready), and the longest segment.
HEADER, MESSAGES, SEGMENT = 48, 3, 2**20
QUIET_S = 0.1  # after which what was sent is written


@dataclass(frozen=True)
class Case:
    """A network, and the random images of a worker's step.

    reductions: that are timed together.
    """

    arch: str
    classes: int
    resolution: int
    batch_size: int
    reductions: int


@dataclass(frozen=True)
class Traffic:
    """Of one worker's reduction."""

    reduced: tuple[int, ...]
    """Bytes of each all-reduce."""
    written: int
    """Bytes on the wire, gloo's headers among them."""


class Operators(TorchDispatchMode):
    """Counts those of PyTorch."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def headers(size: int, workers: int) -> int:
    """Bytes of the headers that a worker writes for a ring of gloo's over `size` bytes."""
    if workers == 1:
        return 0
    segments = max(math.ceil(size / SEGMENT), 2 * workers)
    by_worker = math.ceil(segments / workers)
    return HEADER * MESSAGES * rounds(workers) * by_worker


def works(cases: Sequence[Case]) -> dict[str, Callable[[], object]]:
    """What a worker of a team can be asked for: of each case by name, seconds or its traffic."""
    found: dict[str, Callable[[], object]] = {}
    for case in cases:
        step, reducer = prepared(network(case), case.resolution, case.batch_size)
        step()  # every later reduction has gradients
        reducer.finish()  # and what a first one sets up is in none that is counted

        def at_end(step: Any = step, reducer: Any = reducer) -> None:
            step()
            reducer.finish()

        def as_it_goes(step: Any = step, reducer: Any = reducer) -> None:
            step(reducer=reducer)
            reducer.finish()

        found |= {
            f"{case.arch} {ALONE}": partial(_seconds, step),
            f"{case.arch} {AT_END}": partial(_seconds, at_end),
            f"{case.arch} {AS_IT_GOES}": partial(_seconds, as_it_goes),
            f"{case.arch} {REDUCTION}": partial(_seconds, reducer.finish, case.reductions),
            f"{case.arch} {TRAFFIC}": partial(_traffic, reducer.finish),
        }
    return found


def prepared(
    model: DSNet, resolution: int, batch_size: int, widths: int = 2
) -> tuple[Callable[..., None], GradientReducer]:
    """A step of stage I that leaves its gradients, and what reduces them. widths: random ones."""
    teacher = make_teacher(model)
    reducer = GradientReducer(model.parameters())
    rank = dist.get_rank() if dist.is_initialized() else 0
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(batch_size, 3, resolution, resolution, generator=generator)
    labels = torch.arange(batch_size) % (model.architecture.num_classes or 1)
    inputs, targets = model.task.pair(images, labels, torch.arange(batch_size))
    drawn = random_widths(model, widths, torch.Generator().manual_seed(0))

    def step(reducer: GradientReducer | None = None) -> None:
        model.zero_grad()
        bootstrap_step(model, teacher, inputs, targets, drawn, reducer=reducer)

    return step, reducer


def network(case: Case) -> DSNet:
    """What learns in stage I, the same in every worker."""
    torch.manual_seed(0)
    return learning(create_model(case.arch, case.classes))


def learning(model: DSNet) -> DSNet:
    """As stage I has it: all but the slimming heads has gradients."""
    for parameter in model.slimming_parameters():
        parameter.requires_grad_(False)
    return model.train()


def operators(model: DSNet, resolution: int, widths: int) -> int:
    """How many operators of PyTorch a step runs, forward and backward; counted."""
    step, _ = prepared(learning(copy.deepcopy(model)), resolution, 2, widths)
    with Operators() as seen:
        step()
    return seen.count


def _seconds(call: Callable[[], object], times: int = 1) -> float:
    """Seconds of a call, in which no worker begins before the others."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _traffic(reduce: Callable[[], object]) -> Traffic:
    dist.barrier()
    time.sleep(QUIET_S)
    before = _written()
    with _reductions() as sizes:
        reduce()
    time.sleep(QUIET_S)
    return Traffic(tuple(sizes), _written() - before)


@contextmanager
def _reductions() -> Iterator[list[int]]:
    """The bytes of every all-reduce that is asked for meanwhile."""
    all_reduce: Any = dist.all_reduce
    sizes: list[int] = []

    def counting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        sizes.append(tensor.nbytes)
        return all_reduce(tensor, *arguments, **options)

    dist.all_reduce = counting
    try:
        yield sizes
    finally:
        dist.all_reduce = all_reduce


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def traffic(team: Team, case: Case) -> list[Traffic]:
    """What each worker sent for one reduction, by rank."""
    return [each for each in team.call(f"{case.arch} {TRAFFIC}") if isinstance(each, Traffic)]


def slowest(team: Team, name: str) -> list[Figure]:
    """Milliseconds until the last worker has done it."""
    return [Figure(1000 * max(float(str(each)) for each in team.call(name)), "ms")]


def fitted(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """(latency, seconds for a byte) of seconds = latency * messages + bytes / bandwidth.

    points: (messages, bytes, seconds). Least squares of the relative errors.
    """
    rows = np.array([(messages, size) for messages, size, _ in points])
    seconds = np.array([each for *_, each in points])
    latency, each_byte = np.linalg.lstsq(rows / seconds[:, None], np.ones(len(seconds)), None)[0]
    return float(latency), float(each_byte)
