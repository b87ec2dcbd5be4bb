"""Prediction: DS-MBNet at fixed and chosen widths, compared with what a user would pick instead.

Every row takes uint8 images of 224 pixels and runs in the same rounds as all others of its batch
size. A floor is one sub-network exported on its own, so what a route costs beyond its floor is the
gate, the grouping and what they do to the rest. ONNX Runtime's rows are whole calls of a session
with the file, PyTorch's calls of the module; "Predictor" is the whole of dsnet.Predictor, and
"eager slices" the network as it is trained, its weights sliced at every call.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dsnet import DSNet, Predictor, normalize
from dsnet.inference.export import to_bytes
from dsnet.inference.fold import fold
from dsnet.inference.onnx_backend import OnnxBackend
from dsnet.inference.onnx_graph import build
from dsnet.inference.torch_backend import TorchBackend
from jobs.bench import rivals
from jobs.bench.interleaved import Figure, Measure, summary, take_turns, throughput, values
from jobs.bench.mixes import EVEN, MEDIUM, SMALL, Routed, routed
from jobs.bench.options import Options
from jobs.bench.record import Record, point
from jobs.bench.shares import shares
from pipeline.report.chart import Axis, Drawing, Point, Series, alone, chart

BATCHES = (1, 8, 64)
RIVAL = "MobileNetV1 1.0"
ALONE = 16  # images of a row that takes equally long for each
# Idle threads of one session look for work for a while before they sleep, and are in the way of the
# next one's.
SETTLE = 0.1  # seconds
BACKENDS = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch"}

# Class in chart.css, mark and legend by how a row's name begins; the first that fits counts.
PLOTTED = {
    "floor": ("static", "square", "one sub-network, exported alone"),
    "DS-MBNet all": ("oracle", "small", "DS-MBNet, every image at one width"),
    "DS-MBNet": ("gate", "dot", "DS-MBNet, each image at its own width"),
    "eager": ("curve", "small", "DS-MBNet, eager slices"),
    "": ("random", "dot", "from left: MobileNetV3, V2, V1, ResNet-50"),
}


@dataclass(frozen=True)
class Row:
    """One thing that is measured."""

    name: str
    run: Callable[[Tensor], object]
    """One batch, uint8 (n, 224, 224, 3)."""
    images: Tensor
    """What it is run on, batch by batch."""
    madds: float
    """Average multiply-adds per image."""
    floors: dict[str, float] = field(default_factory=dict)
    """Rows that it is compared with besides MobileNetV1, and the share of each."""


def bench(options: Options) -> list[Record]:
    """Images per second and CPU milliseconds per image at batch 1, 8 and 64, and shares."""
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    mixes = {mix.name: routed(mix) for mix in (EVEN, SMALL, MEDIUM)}
    files = dict(_files(mixes))
    rows = [*_onnx_rows(mixes, files, threads), *_torch_rows(mixes)]
    records = [
        Record(f"{row.name} MAdds", "multiply-adds/image", row.madds, (row.madds, row.madds), 1)
        for row in rows
    ]
    for row in rows:
        row.run(row.images[:1])
    for batch in BATCHES[: 1 if options.quick else None]:
        records += _batch(rows, batch, options)
    for batch in BATCHES:
        images = mixes["even"].mixed().repeat(2, 1, 1, 1)[:batch]
        records += shares(files["DS-MBNet even"], images, threads)
    return records


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw latency against multiply-adds, a panel for each backend at the ends of the batches."""
    madds = {r.name.removesuffix(" MAdds"): r.value for r in records if r.name.endswith(" MAdds")}
    speeds = {r.name: r for r in records if r.unit == "images/s"}
    x = Axis("multiply-adds per image, millions", log=True)
    drawings: list[Drawing] = []
    for backend, called in BACKENDS.items():
        for batch in (BATCHES[0], BATCHES[-1]):
            group = f"batch {batch} {backend} "
            ours = {n.removeprefix(group): r for n, r in speeds.items() if n.startswith(group)}
            ours = {name: record for name, record in ours.items() if "Predictor" not in name}
            if ours:
                series = _plotted(ours, {name: madds[f"{backend} {name}"] for name in ours})
                title = f"ms per image: {called}, batch {batch}"
                drawings.append(chart(title, series, x, Axis("", log=True), legend=not drawings))
    path.write_text(alone(*drawings), encoding="utf-8")


def _plotted(speeds: Mapping[str, Record], madds: Mapping[str, float]) -> list[Series]:
    """A mark for each network, and what MobileNetV1's time is in proportion to multiply-adds."""
    points: dict[str, list[Point]] = {start: [] for start in PLOTTED}
    for name, record in speeds.items():
        start = next(start for start in PLOTTED if name.startswith(start))
        fastest = 1000 / record.spread[1], 1000 / record.spread[0]
        latency = Record(name, "ms/image", 1000 / record.value, fastest, record.runs)
        points[start].append(point(name, madds[name], latency, 1e6))
    slope = 1000 / speeds[RIVAL].value / madds[RIVAL]
    ends = [Point(count / 1e6, count * slope) for count in (min(madds.values()), madds[RIVAL])]
    return [
        Series("cascade", ends, f"in proportion to {RIVAL}"),
        *(
            Series(kind, points[start], legend, line=False, mark=mark)
            for start, (kind, mark, legend) in PLOTTED.items()
        ),
    ]


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
        yield Row(f"torch eager slices {name}", _eager(case.model), case.mixed(), case.madds())


def _eager(model: DSNet) -> Callable[[Tensor], object]:
    @torch.inference_mode()
    def run(images: Tensor) -> object:
        return model(normalize(images, model.metadata.mean, model.metadata.std))

    return run


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
        for figure in rounds[0][row.name]:
            what = f" {figure.what}" if figure.what else ""
            title, mine = f"{group} {row.name}{what}", values(rounds, row.name, figure.what)
            against = None if row.name == rival else f"{group} {rival}{what}"
            others = values(rounds, rival, figure.what)
            records.append(summary(title, figure.unit, mine, against, others))
            if row.floors:
                # Time per image, whichever way round the figure is: shares weigh times.
                power = 1 if figure.what else -1
                times = {
                    floor: [value**power for value in values(rounds, floor, figure.what)]
                    for floor in row.floors
                }
                costs = [
                    value**power / sum(share * times[f][r] for f, share in row.floors.items())
                    for r, value in enumerate(mine)
                ]
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
