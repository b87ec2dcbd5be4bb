"""Serving under load: at a fixed budget, and with one that falls to hold a 99th percentile.

Both servers run on one Ray Serve, in turns under the same load, which arrives by itself (open loop)
from another process: multiples of what the full budget can serve, measured first. A DS-MBNet with
random weights: its answers mean nothing, its speed does. And the first one while eight
hostile clients attack: how the others' latency changes.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, median, quantiles

import torch
from PIL import Image

import dsnet
from dsnet import DSNet
from dsnet.inference.export import write_onnx
from dsnet.models.create import architecture
from dsnet.routing.budget import calibrate_prices
from dsnet.training import recalibrate
from jobs.bench.interleaved import Figure, compare
from jobs.bench.mixes import blotches, undecided
from jobs.bench.options import Options
from jobs.bench.record import Record, point
from jobs.bench.serving_load import Sent
from pipeline.cluster import ray_cluster
from pipeline.predict.serve.launch import deployed, http
from pipeline.predict.serve.prepare import prepare
from pipeline.report.chart import Axis, Point, Series, alone, chart

# A DS-MBNet with a wide tail: HTTP through Ray takes 10 ms of a core for a request, whatever the
# width, and what is compared is what a budget saves of the network.
WIDE = {3: tuple(range(224, 1265, 80)), 4: tuple(range(736, 2193, 112))}
ROUTES = (0, 4, 9, 13)
LEAST = "0.12"
PICTURES = 64
LOADS = (0.5, 1.0, 2.0, 3.0)  # times what the full budget serves
P99_S = 1.5  # to hold
SECONDS = 8.0  # of each load
HEAD_START_S = 2.0  # of hostile clients
BURST = (100.0, 0.5)  # requests per second, seconds: more than any budget serves
FIXED, ADAPTIVE = "fixed", "adaptive"
ALONE, BESIDE = f"{LOADS[0]:g}x {FIXED}", f"{LOADS[0]:g}x {FIXED} beside hostile clients"
PORT = 8471
PLOTTED = {
    "p99": "99th percentile, ms",
    "throughput": "Answered while the load lasts, images/s",
    "budget": "Mean budget, of the widest route",
}

Send = Callable[[str, Sequence[tuple[float, float]]], list[Sent]]
"""(server, schedule) -> what became of each request"""


def bench(options: Options) -> list[Record]:
    """Throughput, latency and budget at each load; and whether the budget returns after it."""
    seconds = 1.0 if options.quick else SECONDS
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model, pictures = _model(folder / "model"), _pictures(folder / "pictures")
        ray_cluster.start(cpus=4)
        url = stack.enter_context(http("127.0.0.1", PORT))
        for server, p99 in ((FIXED, None), (ADAPTIVE, P99_S)):
            prepared = prepare(str(model), budget="1.0", replicas=1, p99=p99, least=LEAST)
            stack.enter_context(deployed(prepared, server, f"/{server}"))
        send = partial(_sent, url, pictures)
        burst = send(FIXED, [BURST])
        full = len(burst) / max(each.due + each.seconds for each in burst)
        measures = {
            f"{load:g}x {server}": partial(_measured, send, server, full * load, seconds)
            for load in LOADS
            for server in (FIXED, ADAPTIVE)
        }
        measures[BESIDE] = partial(_beside_hostile, url, send, full * LOADS[0], seconds)
        measures["0.5x, 3x, 0.5x adaptive"] = partial(_returning, send, full, seconds)
        records = compare(
            "serving",
            measures,
            against={f"{load:g}x {ADAPTIVE}": f"{load:g}x {FIXED}" for load in LOADS}
            | {BESIDE: ALONE},
            runs=options.runs,
            warmups=0,
        )
    return [Record("serving full budget", "images/s", full, (full, full), 1), *records]


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw latency, throughput and budget against load."""
    by_name = {record.name: record for record in records}

    def server(name: str, kind: str, what: str) -> Series:
        rows = [(load, by_name[f"serving {load:g}x {name} {what}"]) for load in LOADS]
        points = [point(f"{name} at {load:g}x", load, record) for load, record in rows]
        return Series(kind, points, name, mark="dot")

    x = Axis("load, times what the full budget serves")
    drawings = []
    for what, title in PLOTTED.items():
        lines = [server(FIXED, "static", what), server(ADAPTIVE, "gate", what)]
        y = Axis("", log=what == "p99")
        if what == "p99":
            ends = [Point(LOADS[0], 1000 * P99_S), Point(LOADS[-1], 1000 * P99_S)]
            lines.insert(0, Series("oracle", ends, "to hold"))
        drawings.append(chart(title, lines, x, y, legend=what == "p99"))
    path.write_text(alone(*drawings), encoding="utf-8")


def _model(directory: Path) -> Path:
    torch.manual_seed(0)
    base = architecture("ds_mbnet")
    stages = list(base.stages)
    for index, channels in WIDE.items():
        stages[index] = replace(stages[index], channels=channels)
    model = DSNet(replace(base, stages=tuple(stages)).with_routes(ROUTES))
    pool = blotches(PICTURES)
    x = dsnet.normalize(pool, model.metadata.mean, model.metadata.std)
    recalibrate(model, [x[:16]])
    model.eval()
    undecided(model, pool)
    model.metadata = replace(model.metadata, prices=calibrate_prices(model, x.split(16)))
    dsnet.save(model, directory)
    write_onnx(model, directory)
    return directory


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    torch.manual_seed(1)
    for index, pixels in enumerate(blotches(PICTURES)):
        Image.fromarray(pixels.numpy()).save(folder / f"{index:03}.jpg", quality=90)
    return folder


def _sent(
    url: str, pictures: Path, server: str, schedule: Sequence[tuple[float, float]]
) -> list[Sent]:
    command = [sys.executable, "-m", "jobs.bench.serving_load", f"{url}/{server}/predict"]
    output = subprocess.run(
        [*command, str(pictures), json.dumps(schedule)], check=True, stdout=subprocess.PIPE
    )
    return [Sent(**each) for each in json.loads(output.stdout)]


def _measured(send: Send, server: str, rate: float, seconds: float) -> list[Figure]:
    return _figures(send(server, [(rate, seconds)]), seconds)


def _beside_hostile(url: str, send: Send, rate: float, seconds: float) -> list[Figure]:
    """The same while eight clients do what they can to prevent it, from two seconds before on."""
    lasts = str(seconds + 2 * HEAD_START_S)
    command = [sys.executable, "-m", "jobs.bench.serving_hostile", f"{url}/{FIXED}/predict", lasts]
    hostile = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        time.sleep(HEAD_START_S)
        return _measured(send, FIXED, rate, seconds)
    finally:
        hostile.kill()
        hostile.communicate()


def _figures(sent: Sequence[Sent], seconds: float) -> list[Figure]:
    answered = [each for each in sent if each.status == 200]
    took = [1000 * each.seconds for each in answered]
    within = sum(each.due + each.seconds <= seconds for each in answered)
    return [
        Figure(within / seconds, "images/s", "throughput"),
        Figure(median(took), "ms", "median"),
        Figure(quantiles(took, n=100)[98], "ms", "p99"),
        Figure(mean(each.budget for each in answered), "of the widest", "budget"),
        Figure(mean(each.madds for each in answered) / 1e6, "M MAdds/image", "spent"),
        Figure(100 * len(answered) / len(sent), "%", "answered"),
    ]


def _returning(send: Send, full: float, seconds: float) -> list[Figure]:
    """The budget at the end of each part of a load that rises to three times and falls again."""
    parts = (0.5, 3.0, 0.5)
    lengths = (1.5 * seconds, seconds, 2 * seconds)
    sent = send(ADAPTIVE, [(full * load, each) for load, each in zip(parts, lengths, strict=True)])
    took = [1000 * each.seconds for each in sent if each.status == 200]
    figures = [
        Figure(quantiles(took, n=100)[98], "ms", "p99"),
        Figure(100 * mean(each.status == 200 for each in sent), "%", "answered"),
    ]
    end = 0.0
    for when, length in zip(("before", "during", "after"), lengths, strict=True):
        end += length
        last = [each.budget for each in sent if end - length / 4 <= each.due < end]
        figures.append(Figure(mean(last), "of the widest", f"budget {when}"))
    return figures
