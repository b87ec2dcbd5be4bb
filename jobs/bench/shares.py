"""Where the time of a routed ONNX file goes, by ONNX Runtime's own profile."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from torch import Tensor

from jobs.bench.interleaved import summary
from jobs.bench.record import Record

RUNS, FIRST = 30, 10  # the first ones warm up
Event = Mapping[str, Any]
"""An operator of the profile that ran: `ts` and `dur`, its start and time in microseconds."""


def shares(content: bytes, images: Tensor, threads: int) -> list[Record]:
    """Shares of the time in operators: prefix, gate, grouping and tails.

    The gate is its slimming head and the choice: attention is part of every block. Grouping is all
    that sorts rows, gathers them, and puts results back.
    """
    runs = [_parts(run) for run in _profile(content, images, threads)[FIRST:]]
    totals = [sum(run.values()) for run in runs]
    title = f"batch {len(images)} onnxruntime DS-MBNet even"
    return [
        summary(
            f"{title} share of {part}",
            "%",
            [100 * run[part] / total for run, total in zip(runs, totals, strict=True)],
        )
        for part in ("prefix", "gate", "grouping", "tails")
    ] + [summary(f"{title} operators", "ms", [median(totals) / 1000])]


def _profile(content: bytes, images: Tensor, threads: int) -> list[list[Event]]:
    """The operators of each run.

    Profiling itself takes a microsecond or two for each operator, which weighs most on the
    smallest.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(content, options)
        for _ in range(RUNS):
            session.run(None, {"images": images.numpy(), "price": np.array(0, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    operators = [e for e in events if e["name"].endswith("_kernel_time")]
    return [
        [e for e in operators if run["ts"] <= e["ts"] < run["ts"] + run["dur"]]
        for run in events
        if run["name"] == "model_run"
    ]


def _parts(run: Sequence[Event]) -> dict[str, float]:
    """Microseconds of each part. What runs in a branch is counted with the branch."""
    branches = [event for event in run if event["args"]["op_name"] == "If"]
    parts: dict[str, float] = defaultdict(float)
    for event in run:
        begin, taken = event["ts"], event["dur"]
        inside = any(
            branch["ts"] <= begin and begin + taken <= branch["ts"] + branch["dur"]
            for branch in branches
            if branch is not event
        )
        if event in branches:
            parts["tails" if _images(event) else "grouping"] += taken
        elif event["name"].startswith("group"):
            parts["grouping"] += taken
            parts["tails"] -= taken if inside else 0
        elif event["name"].startswith("gate"):
            parts["gate"] += taken
        elif not inside:
            parts["prefix"] += taken
    return parts


def _images(branch: Event) -> int:
    """How many took a branch. Each output is written as {type: shape}."""
    (shape,) = branch["args"]["output_type_shape"][0].values()
    images: int = shape[0]
    return images
