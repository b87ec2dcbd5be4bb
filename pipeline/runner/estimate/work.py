"""What each stage of a chain computes and reads: steps, images, multiply-adds, bytes.

Multiply-adds are exact for a forward pass (`DSNet.madds`); a backward pass counts as two of them.
"""

import math
from dataclasses import dataclass

import torch

from dsnet import DSNet
from dsnet.training import random_widths
from pipeline.config import Config
from pipeline.runner.estimate.sizes import Sizes
from pipeline.stages.supernet import resolution_of_epoch

TRAIN, FORWARD, GATE = "train", "forward", "gate"
BACKWARD = 2  # forward passes that a backward pass is worth


@dataclass(frozen=True)
class Work:
    """Of one stage, all workers together."""

    stage: str
    kind: str
    """What it mostly does, by which its speed is known: `TRAIN`, `FORWARD`, or `GATE`, which learns
    from a table on the driver."""
    steps: int
    """Of each worker."""
    images: int
    """That go through the network, each as often as it does."""
    madds: int
    """Multiply-adds in all."""
    evaluated: int = 0
    """Images that every width is measured on while it trains."""
    evaluated_madds: int = 0

    def bytes_read(self, sizes: Sizes) -> int:
        """Of the betons; a gate that learns from a table reads none."""
        images = 0 if self.kind == GATE else self.images
        return round((images + self.evaluated) * sizes.picture_bytes)


def of_chain(config: Config, model: DSNet, sizes: Sizes, by_table: bool) -> list[Work]:
    """Every stage of a chain, in order. model: of the configuration, also without its weights."""
    train = sizes.train - sizes.holdout(config)
    supernet = of_supernet(config, model, train, sizes.holdout(config))
    calibrate = of_calibrate(config, model, train, sizes.holdout(config))
    gates = (
        _by_table(config, model, sizes, train) if by_table else [_straight(config, model, train)]
    )
    routed = every_width(model) + max(model.madds(route) for route in routes(model))
    evaluate = Work(
        "evaluate",
        FORWARD,
        _steps(sizes.test, config.cluster.max_workers, config.evaluate.batch_size),
        sizes.test,
        sizes.test * routed,
    )
    return [supernet, calibrate, *gates, evaluate]


def of_supernet(config: Config, model: DSNet, train: int, holdout: int) -> Work:
    """Stage I, its evaluations among it."""
    section, workers = config.supernet, config.cluster.max_workers
    batches = max(1, train // workers // section.batch_size)
    steps = -(-batches // section.accumulate)
    images = batches * workers * section.batch_size  # of an epoch
    sides = [resolution_of_epoch(config, epoch) for epoch in range(section.epochs)]
    every = section.evaluate_every or section.checkpoint_every
    looks = -(-section.epochs // every) * holdout
    return Work(
        "supernet",
        TRAIN,
        steps * section.epochs,
        images * section.epochs,
        images * sum(of_bootstrap(config, model, side) for side in sides),
        evaluated=looks,
        evaluated_madds=looks * every_width(model),
    )


def of_bootstrap(config: Config, model: DSNet, resolution: int | None = None) -> int:
    """Multiply-adds of one image in a step of stage I; a random width counts as the mean of all.

    resolution: of the image's side, in pixels; by default the model's.
    """
    section, space = config.supernet, model.space
    widths = [model.madds(width, resolution) for width in range(len(space))]
    largest = model.madds(space.largest, resolution)
    if space[0] == space.largest:  # a network of one width learns from the targets, once
        return (1 + BACKWARD) * largest
    random = widths_drawn(config, model) * sum(widths) // len(widths)
    student = (1 + BACKWARD) * (largest + random + widths[0])
    teacher = {"ensemble": largest + random, "plain": largest, "distill": 0, "labels": 0}
    return student + teacher[section.bootstrap]


def widths_drawn(config: Config, model: DSNet) -> int:
    """How many random widths a step has: no more than there are between the two ends."""
    return len(random_widths(model, config.supernet.random_widths, torch.Generator()))


def of_calibrate(config: Config, model: DSNet, train: int, holdout: int) -> Work:
    """Recalibration, and the look at held-out images after it."""
    section, workers = config.calibrate, config.cluster.max_workers
    images = min(train, section.images or train)
    return Work(
        "calibrate",
        FORWARD,
        _steps(images, workers, section.batch_size),
        images,
        images * (every_width(model) + model.madds(model.space.largest)),
        evaluated=holdout,
        evaluated_madds=holdout * every_width(model),
    )


def _by_table(config: Config, model: DSNet, sizes: Sizes, train: int) -> list[Work]:
    rows = rows_of_tables(config, sizes)
    each = shared([model.madds(route) for route in routes(model)], prefix(model))
    table = Work(
        "table",
        FORWARD,
        _steps(rows, config.cluster.max_workers, config.table.batch_size),
        rows,
        rows * each,
    )
    return [table, Work("gate", GATE, config.table.steps, train * config.table.views, 0)]


def _straight(config: Config, model: DSNet, train: int) -> Work:
    section, workers = config.gate, config.cluster.max_workers
    batches = max(1, train // workers // section.batch_size)
    images = batches * workers * section.batch_size * section.epochs
    # Forward through everything, backward behind the gate; the ends decide what is easy.
    ways = [model.madds(route) for route in routes(model)]
    each = ways[-1] + BACKWARD * (ways[-1] - prefix(model)) + ways[0] + ways[-1]
    return Work("gate", TRAIN, batches * section.epochs, images, images * each)


def rows_of_tables(config: Config, sizes: Sizes) -> int:
    """Of the three tables together."""
    aside = sizes.holdout(config)
    return (sizes.train - aside) * config.table.views + aside + sizes.test


def routes(model: DSNet) -> list[int]:
    """The sub-networks that gates may pick; all of them where there is no gate."""
    return list(model.space.routes) or list(range(len(model.space)))


def every_width(model: DSNet) -> int:
    """Multiply-adds of one image at every sub-network, what they share computed once."""
    widths = [model.madds(width) for width in range(len(model.space))]
    return shared(widths, prefix(model))


def shared(widths: list[int], before: int) -> int:
    """Of one image at each of `widths`, which share what comes before the first gate."""
    return sum(widths) - (len(widths) - 1) * before


def prefix(model: DSNet) -> int:
    """What comes before the first gate; 0 without gates."""
    return model.prefix_madds() if model.architecture.gates else 0


def _steps(images: int, workers: int, batch_size: int) -> int:
    return math.ceil(math.ceil(images / workers) / batch_size)
