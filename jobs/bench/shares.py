"""Where the time of a routed file goes, from ONNX Runtime's own profile of it."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from torch import Tensor

from jobs.bench.interleaved import summary
from jobs.bench.pinned import pinned
from jobs.bench.record import Record

RUNS = 30


def shares(content: bytes, images: Tensor, threads: int) -> list[Record]:
    """Shares of the time in operators: prefix, gate, grouping and tails.

    The gate is its slimming head and the choice: attention is part of every block. Grouping is all
    that sorts rows, gathers them, and puts results back. Profiling itself costs a microsecond or
    two for each operator, which weighs most on the smallest.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(content, options)
        feed = {"images": images.numpy(), "price": np.array(0, np.float32)}
        session.run(None, feed)
        with pinned(threads):
            for _ in range(RUNS):
                session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = _runs(events)[1 + RUNS // 3 :]
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


def _runs(events: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Microseconds of each part, run by run."""
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    ends = sorted(e["ts"] + e["dur"] for e in events if e["name"] == "model_run")
    branches = [e for e in nodes if e["args"]["op_name"] == "If"]
    runs: list[dict[str, float]] = [defaultdict(float) for _ in ends]
    for event in nodes:
        run = runs[next(i for i, end in enumerate(ends) if event["ts"] <= end)]
        inside = any(
            b["ts"] <= event["ts"] and event["ts"] + event["dur"] <= b["ts"] + b["dur"]
            for b in branches
            if b is not event
        )
        time = event["dur"]
        if event in branches:
            run["tails" if _taken(event) else "grouping"] += time
        elif event["name"].startswith("group"):
            run["grouping"] += time
            run["tails"] -= time if inside else 0
        elif event["name"].startswith("gate"):
            run["gate"] += time
        elif not inside:
            run["prefix"] += time
    return runs


def _taken(branch: dict[str, Any]) -> bool:
    shape = next(iter(branch["args"]["output_type_shape"][0].values()))
    return bool(shape[0])
