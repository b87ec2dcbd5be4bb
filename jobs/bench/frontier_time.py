"""The time of an exported dynamic network compared with its own static widths, on test images.

By ONNX Runtime on one thread, in CPU time. The ratio is to what static widths take, interpolated to
the multiply-adds that the images had: where it is 1, what is saved in multiply-adds is saved in
time. The ratio to what ran of each width, by the multiply-adds of it, says what routing costs, and
not how much more a slim width's multiply-adds take than a wide one's.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

import dsnet
from dsnet import DSNet, Predictor
from dsnet.models.second_look import Routed
from dsnet.routing.looks import MOST_ROUTES
from dsnet.routing.target import Target
from jobs.bench.interleaved import Measure, summary, take_turns, throughput, values
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline.config import Config
from pipeline.data.dataset import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions

IMAGES = {64: 3200, 1: 320}
"""How many, by size of the batches."""
QUICK_IMAGES = 64


def times(
    title: str, directory: Path, config: Config, targets: Sequence[Target], options: Options
) -> list[Record]:
    """CPU milliseconds per image of every width and target at batch 64 and 1, one thread."""
    model = dsnet.load(directory)
    routes = model.space.routes
    madds = np.array([model.madds(route) for route in routes], np.float64)
    names = [f"width {index}" for index in range(len(routes))]
    static = {
        name: Predictor(directory, width=route, backend="onnxruntime", threads=1)
        for name, route in zip(names, routes, strict=True)
    }
    dynamic = {
        f"target {target}": Predictor(directory, target, "onnxruntime", threads=1)
        for target in targets
    }
    records = []
    for batch, count in IMAGES.items():
        images = test_images(config, QUICK_IMAGES if options.quick else count)
        batches = [images[start : start + batch] for start in range(0, len(images), batch)]
        measures: dict[str, Measure] = {
            name: throughput(_all_of(predictor, batches), len(images))
            for name, predictor in (static | dynamic).items()
        }
        rounds = take_turns(f"{title} batch {batch}", measures, runs=options.runs)
        of = f"{title}: batch {batch}"
        taken = {name: values(rounds, name, "CPU") for name in measures}
        records += [summary(f"{of} {name}", "CPU ms/image", taken[name]) for name in names]
        for name, predictor in dynamic.items():
            parts = [predictor.routed(rows) for rows in batches]
            routed = Routed(*(torch.cat(each) for each in zip(*parts, strict=True)))
            spent, ran = routed.madds.numpy().mean(), shares_run(model, routed).mean(0)
            by_round = list(zip(*(taken[other] for other in names), strict=True))
            as_dear = [float(np.interp(spent, madds, each)) for each in by_round]
            as_run = [float(ran @ each) for each in by_round]
            widths = f"{of} {name}, static widths for as many multiply-adds"
            as_far = f"{of} {name}, static widths as far as they ran"
            records.append(summary(widths, "CPU ms/image", as_dear))
            records.append(summary(as_far, "CPU ms/image", as_run))
            records.append(summary(f"{of} {name}", "CPU ms/image", taken[name], widths, as_dear))
            beside = f"{of} {name}, beside what ran"
            records.append(summary(beside, "CPU ms/image", taken[name], as_far, as_run))
    return records


def shares_run(model: DSNet, routed: Routed) -> np.ndarray:
    """Of each route's multiply-adds, the share that ran for each image: float64 (N, routes).

    What lies before the gate is of the route that ran first, the slimmest, and of no other. Which
    routes ran follows from the one that answered and from all that was spent. Raises KeyError for
    what no routes spend.
    """
    routes, prefix = model.space.routes, model.prefix_madds()
    madds = [model.madds(route) for route in routes]
    most = MOST_ROUTES if len(model.architecture.gates) == 1 else 1
    known = {}
    for count in range(1, 1 + min(len(routes), most)):
        for first, *others in combinations(range(len(routes)), count):
            shares = np.zeros(len(routes))
            shares[first] = 1
            shares[others] = [1 - prefix / madds[other] for other in others]
            spent = madds[first] + sum(madds[other] - prefix for other in others)
            known[routes[[first, *others][-1]], spent] = shares
    answers = zip(routed.widths.tolist(), routed.madds.tolist(), strict=True)
    return np.stack([known[answer] for answer in answers])


def test_images(config: Config, count: int) -> np.ndarray:
    """The first `count` test images, or all that there are: uint8 (n, H, W, 3)."""
    test = ingest(config).test
    indices = np.arange(min(count, test.samples))
    loader = Loader(test.beton, LoaderOptions.of(config, len(indices), indices=indices))
    with loader:
        return next(iter(loader.epoch(0))).images.numpy().copy()


def _all_of(predictor: Predictor, batches: Sequence[np.ndarray]) -> Callable[[], object]:
    return lambda: [predictor(batch) for batch in batches]
