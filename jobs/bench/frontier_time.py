"""The time of an exported dynamic network beside its own static widths, on test images."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import dsnet
from dsnet import Predictor
from dsnet.routing.target import Target
from jobs.bench.interleaved import Figure, Measure, summary, take_turns, throughput
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline.config import Config
from pipeline.data.dataset import ingest
from pipeline.data.loader import Loader

IMAGES = {64: 3200, 1: 320}
"""How many, by size of the batches."""
QUICK_IMAGES = 64


def times(
    title: str, directory: Path, config: Config, targets: Sequence[Target], options: Options
) -> list[Record]:
    """CPU milliseconds per image of every width and target at batch 64 and 1, one thread.

    A target's ratio is to what its static widths take for as many multiply-adds.
    """
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
        taken = {name: [_cpu(figures[name]) for figures in rounds] for name in measures}
        records += [summary(f"{of} {name}", "CPU ms/image", taken[name]) for name in names]
        for name, predictor in dynamic.items():
            spent = np.concatenate([predictor.routed(each).madds.numpy() for each in batches])
            as_dear = [
                float(np.interp(spent.mean(), madds, each))
                for each in zip(*(taken[other] for other in names), strict=True)
            ]
            widths = f"{of} {name}, static widths for as many multiply-adds"
            records.append(summary(widths, "CPU ms/image", as_dear))
            records.append(summary(f"{of} {name}", "CPU ms/image", taken[name], widths, as_dear))
    return records


def test_images(config: Config, count: int) -> np.ndarray:
    """The first `count` test images, or all that there are: uint8 (n, H, W, 3)."""
    test = ingest(config).test
    indices = np.arange(min(count, test.samples))
    loader = Loader(
        test.beton,
        batch_size=len(indices),
        recipe=config.data.recipe,
        train=False,
        resolution=config.data.resolution,
        indices=indices,
    )
    with loader:
        return next(iter(loader.epoch(0))).images.numpy().copy()


def _all_of(predictor: Predictor, batches: Sequence[np.ndarray]) -> Callable[[], object]:
    return lambda: [predictor(batch) for batch in batches]


def _cpu(figures: Sequence[Figure]) -> float:
    return next(figure.value for figure in figures if figure.what == "CPU")
