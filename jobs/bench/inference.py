"""Prediction: DS-MBNet at fixed and chosen widths, beside what a user would pick instead.

Every row takes uint8 images of 224 pixels and runs in the same rounds as all others of its batch
size. A floor is one sub-network exported on its own, so what a route costs beyond its floor is the
gate, the grouping and what they do to the rest. ONNX Runtime's rows are whole calls of a session
with the file, PyTorch's calls of the module; "Predictor" is the whole of dsnet.Predictor.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dsnet import Predictor
from dsnet.inference.export import to_bytes
from dsnet.inference.fold import fold
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.onnx_graph import build
from dsnet.inference.torch_backend import TorchBackend
from jobs.bench import inference_plot, rivals
from jobs.bench.eager import guarded
from jobs.bench.footprint import footprint
from jobs.bench.interleaved import Figure, Measure, summary, take_turns, throughput
from jobs.bench.mixes import EVEN, MEDIUM, SMALL, Routed, routed
from jobs.bench.options import Options
from jobs.bench.pinned import pinned
from jobs.bench.record import Record
from jobs.bench.shares import shares

BATCHES = (1, 8, 64)
RIVAL = "MobileNetV1 1.0"
ALONE = 16  # images of a row that takes equally long for each
# Idle threads of one session look for work for a while before they sleep, and are in the way of the
# next one's.
SETTLE = 0.1  # seconds


@dataclass(frozen=True)
class Row:
    """One thing that is measured.

    run: one batch, uint8 (n, 224, 224, 3). images: what it is run on, batch by batch.
    madds: average multiply-adds per image. floors: the rows that it is compared with besides
    MobileNetV1, and the share of each.
    """

    name: str
    run: Callable[[Tensor], object]
    images: Tensor
    madds: float
    floors: dict[str, float] = field(default_factory=dict)


def bench(options: Options) -> list[Record]:
    """Images per second and CPU milliseconds per image at batch 1, 8 and 64; shares; memory."""
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    mixes = {mix.name: routed(mix) for mix in (EVEN, SMALL, MEDIUM)}
    files = dict(_files(mixes))
    rows = [*_onnx_rows(mixes, files, threads), *_torch_rows(mixes)]
    records = [_constant(f"{row.name} MAdds", "multiply-adds/image", row.madds) for row in rows]
    for row in rows:
        row.run(row.images[:1])
    with pinned(threads):
        for batch in BATCHES[: 1 if options.quick else None]:
            records += _batch(rows, batch, options)
    for batch in BATCHES:
        images = mixes["even"].mixed().repeat(2, 1, 1, 1)[:batch]
        records += shares(files["DS-MBNet even"], images, threads)
    for name, content in files.items():
        records += [
            _constant(f"{name} {what}", "MB", value)
            for what, value in footprint(content, threads).items()
        ]
    return records


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw latency against multiply-adds."""
    inference_plot.draw(records, path, RIVAL, BATCHES)


def _files(mixes: dict[str, Routed]) -> Iterator[tuple[str, bytes]]:
    """Everything that ONNX Runtime runs, as files."""
    for name, case in mixes.items():
        yield f"DS-MBNet {name}", to_bytes(case.model)
        for route in case.mix.routes:
            yield _floor(case, route), to_bytes(case.model, width=route)
    yield RIVAL, build(rivals.mobilenet_v1(), 17, False).SerializeToString()
    for name in rivals.TORCHVISION:
        yield name, rivals.torchvision_onnx(rivals.FromPixels(name))


def _floor(case: Routed, route: int) -> str:
    return f"floor {case.model.madds(route) / 1e6:.0f}M"


def _onnx_rows(mixes: dict[str, Routed], files: dict[str, bytes], threads: int) -> Iterator[Row]:
    def run(name: str) -> Callable[[Tensor], object]:
        session = OnnxBackend(files[name], threads=threads).session
        return lambda images: session.run(None, {"images": images.numpy()})

    yield from _rows("onnxruntime", mixes, run)
    for name, case in mixes.items():
        predictor = Predictor(case.model, backend="onnxruntime", threads=threads)
        floors = {f"onnxruntime {_floor(case, r)}": share for r, share in case.mix.shares().items()}
        title = f"onnxruntime Predictor {name}"
        yield Row(title, predictor, case.mixed(), case.madds(), floors)


def _torch_rows(mixes: dict[str, Routed]) -> Iterator[Row]:
    floors = {_floor(case, r): (case, r) for case in mixes.values() for r in case.mix.routes}

    def run(name: str) -> Callable[[Tensor], object]:
        if name in rivals.TORCHVISION:
            return torch.inference_mode()(rivals.FromPixels(name))
        if name == RIVAL:
            backend = TorchBackend(rivals.mobilenet_v1())
        elif name in floors:
            case, route = floors[name]
            backend = TorchBackend(fold(case.model, route))
        else:
            backend = TorchBackend(fold(mixes[name.removeprefix("DS-MBNet ")].model))
        return lambda images: backend(images, 0.0)

    yield from _rows("torch", mixes, run)
    for name, case in mixes.items():
        yield Row(f"torch eager slices {name}", guarded(case.model), case.mixed(), case.madds())
    even = mixes[EVEN.name]
    for route in even.mix.routes:
        name = f"torch eager slices {_floor(even, route)[6:]}"
        images = even.uniform(route, ALONE)
        yield Row(name, guarded(even.model, route), images, float(even.model.madds(route)))


def _rows(
    backend: str, mixes: dict[str, Routed], run: Callable[[str], Callable[[Tensor], object]]
) -> Iterator[Row]:
    """What both backends have: floors, routes and mixes of DS-MBNet, and the rivals."""
    seen = set()
    for name, case in mixes.items():
        dynamic = run(f"DS-MBNet {name}")
        for route in case.mix.routes:
            floor, madds = _floor(case, route), float(case.model.madds(route))
            images = case.uniform(route, ALONE)
            if floor not in seen:
                seen.add(floor)
                yield Row(f"{backend} {floor}", run(floor), images, madds)
            if name == EVEN.name:
                floors = {f"{backend} {floor}": 1.0}
                yield Row(f"{backend} DS-MBNet all {floor[6:]}", dynamic, images, madds, floors)
        floors = {f"{backend} {_floor(case, r)}": share for r, share in case.mix.shares().items()}
        title = f"{backend} DS-MBNet {name}"
        yield Row(title, dynamic, case.mixed(), case.madds(), floors)
    images = mixes[EVEN.name].mixed()[:ALONE]
    yield Row(f"{backend} {RIVAL}", run(RIVAL), images, rivals.mobilenet_v1().madds[0])
    for name in rivals.TORCHVISION:
        madds = float(rivals.torchvision_madds(name))
        yield Row(f"{backend} {name}", run(name), images, madds)


def _batch(rows: Sequence[Row], batch: int, options: Options) -> list[Record]:
    group = f"batch {batch}"
    measures = {row.name: _measure(row, batch) for row in rows}
    rounds = take_turns(group, measures, runs=options.runs)
    records = []
    for row in rows:
        rival = f"{row.name.split()[0]} {RIVAL}"
        for index, figure in enumerate(rounds[0][row.name]):
            what = f" {figure.what}" if figure.what else ""

            def values(name: str, index: int = index) -> list[float]:
                return [figures[name][index].value for figures in rounds]

            title = f"{group} {row.name}{what}"
            against = None if row.name == rival else f"{group} {rival}{what}"
            records.append(summary(title, figure.unit, values(row.name), against, values(rival)))
            if row.floors:
                # Time per image, whichever way round the figure is: shares weigh times.
                power = 1 if figure.what else -1
                floor = [
                    sum(share * values(f)[r] ** power for f, share in row.floors.items())
                    for r in range(len(rounds))
                ]
                costs = [v**power / f for v, f in zip(values(row.name), floor, strict=True)]
                records.append(summary(f"{title} time over its floor", "x", costs))
    return records


def _measure(row: Row, batch: int) -> Measure:
    images = row.images[torch.arange(max(batch, len(row.images))) % len(row.images)]
    parts = images.split(batch)

    def call() -> None:
        for part in parts:
            row.run(part)

    measure = throughput(call, sum(len(part) for part in parts))

    def settled() -> Sequence[Figure]:
        time.sleep(SETTLE)
        for part in parts[:2]:
            row.run(part)
        return measure()

    return settled


def _constant(name: str, unit: str, value: float) -> Record:
    return Record(name, unit, value, (value, value), 1)
