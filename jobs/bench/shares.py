"""Where the time of a routed file goes: prefix, gate, grouping and tails."""

from collections import defaultdict
from statistics import median

import numpy as np
from torch import Tensor

from jobs.bench.interleaved import summary
from jobs.bench.onnx_profile import Run, profile
from jobs.bench.record import Record

RUNS = 30


def shares(content: bytes, images: Tensor, threads: int) -> list[Record]:
    """Shares of the time in operators: prefix, gate, grouping and tails.

    The gate is its slimming head and the choice: attention is part of every block. Grouping is all
    that sorts rows, gathers them, and puts results back.
    """
    feed = {"images": images.numpy(), "price": np.array(0, np.float32)}
    runs = [_parts(run) for run in profile(content, [feed] * RUNS, threads)[RUNS // 3 :]]
    totals = [sum(run.values()) for run in runs]
    return [
        summary(
            f"batch {len(images)} onnxruntime DS-MBNet even share of {part}",
            "%",
            [100 * run[part] / total for run, total in zip(runs, totals, strict=True)],
        )
        for part in ("prefix", "gate", "grouping", "tails")
    ] + [
        summary(
            f"batch {len(images)} onnxruntime DS-MBNet even operators",
            "ms",
            [median(totals) / 1000],
        )
    ]


def _parts(run: Run) -> dict[str, float]:
    """Microseconds of each part."""
    branches = [operator for operator in run.operators if operator.type == "If"]
    parts: dict[str, float] = defaultdict(float)
    for operator in run.operators:
        inside = any(
            branch.start <= operator.start and operator.end <= branch.end
            for branch in branches
            if branch is not operator
        )
        if operator in branches:
            parts["tails" if operator.taken else "grouping"] += operator.time
        elif operator.name.startswith("group"):
            parts["grouping"] += operator.time
            parts["tails"] -= operator.time if inside else 0
        elif operator.name.startswith("gate"):
            parts["gate"] += operator.time
        elif not inside:
            parts["prefix"] += operator.time
    return parts
