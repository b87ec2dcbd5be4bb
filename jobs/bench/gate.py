"""Stage II two ways on one supernet and the same images: by routing table, and straight-through.

What a target costs: by table, one pass of config.table.views views of every training image and of
the held-out images through all paths, written and read, and a gate on it for each target; by
straight-through, config.gate.epochs passes for each target and a price calibrated on held-out
images. Both as their stages do it, with the config's settings, in one process on the same threads;
starting workers, evaluating on the way and saving are in neither.

With `images`, both see only so many training images. Training on the table takes about as long
however many there are, and all held-out images stay, so the fewer they are the worse the table
looks: the ratio is a lower bound of that for the whole set.

What gates are worth: see `gate_accuracy`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from jobs.bench import gate_plot
from jobs.bench.gate_accuracy import accuracy
from jobs.bench.gate_cost import cost
from jobs.bench.gate_setting import prepare, quick
from jobs.bench.options import Options
from jobs.bench.record import Record

QUICK_IMAGES = 128


def bench(options: Options) -> list[Record]:
    """Seconds per target and their ratio; the headline measure at equal average multiply-adds."""
    config = quick(options.config) if options.quick else options.config
    images = QUICK_IMAGES if options.quick else options.images
    threads = options.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    with prepare(config, images, threads) as setting:
        title = f"gate of {config.name} on {len(setting.images)} images"
        records = cost(setting, title, options.runs)
        return records + accuracy(setting, title, 1 if options.quick else options.seeds)


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw the headline measure against multiply-adds."""
    gate_plot.draw(records, path)
