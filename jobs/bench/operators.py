"""Where the time of a prediction goes, and what the machine could do at best.

ONNX Runtime's own profile is summed up by kind of operator, over the same images for every file. In
the same rounds a matrix product and a sum say what the machine can multiply and read, and eager
PyTorch what the same network takes without a file. With one thread, rates are those of a core.

A round's figure is the least of several passes over the images, image by image or operator by
operator: what else the machine does at that moment is no part of the answer.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch

from dsnet.inference.export import to_bytes
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.onnx_graph import build
from jobs.bench import eager, rivals
from jobs.bench.ceilings import multiplying, reading
from jobs.bench.inference import RIVAL, SETTLE
from jobs.bench.interleaved import Figure, Measure, clocked, summary, take_turns
from jobs.bench.kinds import CLASSIFIER, KINDS, POINTWISE, kind, product, times
from jobs.bench.mixes import SMALL, routed
from jobs.bench.onnx_profile import Operator, Run, least, profile
from jobs.bench.options import Options
from jobs.bench.pinned import pinned
from jobs.bench.record import Record

BATCHES = (1, 64)
FLOORS = {"floor 153M": 1, "floor 565M": 13}  # sub-networks on their own
PASSES = 5  # over the images, in each round
# As fast as any that is larger, and soon done: a busy machine leaves some of them undisturbed.
LARGE = (512, 512, 512)
MEMORY = 256 * 10**6  # bytes, more than caches hold

PROFILED = "by operator"  # ends the names of rows that are read from a profile
DISPATCH = "between operators"  # what starts them, and what writes down that they ran
MADDS, RATE, READS = "pointwise multiply-adds", "pointwise rate", "classifier's weights"
PRODUCT = "matrix product {} x {} x {}"
CEILING = PRODUCT.format(*LARGE)
FLOOR, MIX = "batch 1 onnxruntime floor 153M", "batch 1 onnxruntime DS-MBNet S"
EAGER = "batch 1 torch eager slices S"

Feed = Mapping[str, np.ndarray]
Rounds = Sequence[Mapping[str, Sequence[Figure]]]


def bench(options: Options) -> list[Record]:
    """Milliseconds per image by kind of operator, rates beside their ceilings, eager PyTorch."""
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    passes = 1 if options.quick else PASSES
    case = routed(SMALL)
    files = {name: to_bytes(case.model, width=width) for name, width in FLOORS.items()}
    files["DS-MBNet S"] = to_bytes(case.model)
    files[RIVAL] = build(rivals.mobilenet_v1(), 17, False).SerializeToString()

    images = case.mixed()[: 4 if options.quick else None]
    measures: dict[str, Measure] = {}
    for batch in BATCHES[: 1 if options.quick else None]:
        parts = images.repeat(-(-batch // len(images)), 1, 1, 1).split(batch)
        for name, content in files.items():
            backend = OnnxBackend(content, threads=threads)
            price = {"price": np.array(0, np.float32)} if backend.priced else {}
            feeds = [{"images": part.numpy(), **price} for part in parts]
            title = f"batch {batch} onnxruntime {name}"
            run = partial(backend.session.run, None)
            count = sum(len(part) for part in parts)
            measures[title] = _timed(run, feeds, count, threads, passes)
            measures[f"{title} {PROFILED}"] = _profiled(content, feeds, count, threads, passes)
    for name, call in ((EAGER, eager.guarded), (f"{EAGER} plain", eager.plain)):
        measures[name] = _timed(call(case.model), images.split(1), len(images), threads, passes)
    shape, size = _typical(files["floor 153M"], {"images": images[:1].numpy()})
    measures |= {PRODUCT.format(*dims): multiplying(*dims, threads) for dims in (LARGE, shape)}
    reads = {f"reading {n / 1e6:.1f} MB": reading(n, threads) for n in (size, MEMORY)}
    rounds = take_turns("operators", measures | reads, runs=options.runs)
    return [*_records(rounds, next(iter(reads))), *_bounds(rounds, case.madds())]


# Measuring ---------------------------------------------------------------------------------------


def _timed(
    run: Callable[[Any], object], inputs: Sequence[Any], images: int, threads: int, passes: int
) -> Measure:
    """Milliseconds per image of calls with one input each, `images` images in all."""

    def measure() -> list[Figure]:
        time.sleep(SETTLE)
        with pinned(threads):
            run(inputs[0])
            clocks = [clocked(partial(run, x)) for _ in range(passes) for x in inputs]
        wall, cpu = (
            1000 * sum(min(column[i :: len(inputs)]) for i in range(len(inputs))) / images
            for column in zip(*clocks, strict=True)
        )
        return [Figure(wall, "ms/image"), Figure(cpu, "CPU ms/image", "CPU")]

    return measure


def _profiled(
    content: bytes, feeds: Sequence[Feed], images: int, threads: int, passes: int
) -> Measure:
    """Milliseconds per image by kind of operator, which add up to the first figure; rates."""

    def measure() -> list[Figure]:
        time.sleep(SETTLE)
        runs = profile(content, [*feeds] * passes, threads)
        return figures([least(runs[i :: len(feeds)]) for i in range(len(feeds))], images)

    return measure


def figures(runs: Sequence[Run], images: int) -> list[Figure]:
    """What the profile of `runs`, over `images` images in all, says of one image, and of rates."""
    total = sum(run.time for run in runs)
    parts = sum((times(run) for run in runs), Counter[str]())
    parts[DISPATCH] = sum(run.between for run in runs)
    operators = [operator for run in runs for operator in run.operators]
    madds = sum(prod(product(op)) for op in operators if kind(op) == POINTWISE)
    weights = sum(_bytes(op) for op in operators if kind(op) == CLASSIFIER)
    return [
        Figure(total / images / 1e3, "ms/image"),
        *(Figure(parts[name] / images / 1e3, "ms/image", name) for name in (*KINDS, DISPATCH)),
        Figure(madds / images, "multiply-adds/image", MADDS),
        Figure(madds / parts[POINTWISE] / 1e3, "G multiply-adds/s", RATE),
        Figure(weights / parts[CLASSIFIER] / 1e3, "GB/s", READS),
    ]


def _bytes(operator: Operator) -> int:
    """Of the weights of a linear layer."""
    return 4 * operator.inputs[0][-1] * operator.outputs[0][-1] if operator.type == "Gemm" else 0


def _typical(content: bytes, feed: Feed) -> tuple[tuple[int, int, int], int]:
    """The product that most of a file's pointwise convolutions are, and its classifier's bytes."""
    (run,) = profile(content, [feed], threads=1)
    shapes = Counter(product(op) for op in run.operators if kind(op) == POINTWISE)
    return shapes.most_common(1)[0][0], sum(_bytes(op) for op in run.operators)


# Records -----------------------------------------------------------------------------------------


def _records(rounds: Rounds, read: str) -> Iterator[Record]:
    """Everything that was measured, but for kinds of operators that a file does not have.

    read: the row that reads as much as a classifier does.
    """
    for title, row in rounds[0].items():
        for figure in row:
            values = _values(rounds, title, figure.what)
            if not any(values):
                continue
            other = _against(title, figure.what, read)
            name = _name(title, figure.what)
            if other is None:
                yield summary(name, figure.unit, values)
            else:
                yield summary(name, figure.unit, values, _name(*other), _values(rounds, *other))


def _against(title: str, what: str, read: str) -> tuple[str, str] | None:
    """The row and the figure of it that one is compared with."""
    if what == MADDS:
        return None
    if what == RATE or (title.startswith(PRODUCT[:6]) and title != CEILING):
        return CEILING, ""
    if what == READS:
        return read, ""
    if title.endswith(PROFILED):
        return (title, "") if what else (title.removesuffix(f" {PROFILED}"), "")
    return (MIX, what) if title.startswith(EAGER) else None


def _bounds(rounds: Rounds, madds: float) -> Iterator[Record]:
    """What three times as fast as eager PyTorch would be, and the least that any file can take."""
    floor = _values(rounds, FLOOR)
    for title in (EAGER, f"{EAGER} plain"):
        third = [value / 3 for value in _values(rounds, title)]
        yield summary(f"a third of {title}", "ms/image", third, FLOOR, floor)
    least = [madds / rate / 1e6 for rate in _values(rounds, CEILING)]
    yield summary("DS-MBNet S at the rate of the product", "ms/image", least, FLOOR, floor)


def _values(rounds: Rounds, title: str, what: str = "") -> list[float]:
    return [figure.value for row in rounds for figure in row[title] if figure.what == what]


def _name(title: str, what: str) -> str:
    return f"{title} {what}".strip()
