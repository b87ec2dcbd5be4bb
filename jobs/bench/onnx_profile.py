"""ONNX Runtime's own profile of a file: every operator of every run, with its time and shapes."""

import json
import tempfile
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from jobs.bench.pinned import pinned

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One operator that ran.

    name: its node's, as written or as the runtime renamed it. type: its operator, after fusion.
    start, time: microseconds, in whole ones. inputs: shapes, constants' too unless they were packed
    when the file was loaded.
    """

    name: str
    type: str
    start: int
    time: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    @property
    def end(self) -> int:
        return self.start + self.time

    @property
    def taken(self) -> bool:
        """A branch with images in it: its time is that of the operators inside."""
        return self.type == "If" and self.outputs[0][0] > 0


@dataclass(frozen=True)
class Run:
    """One run of the file: microseconds from its start to its end, and the operators within."""

    time: int
    operators: tuple[Operator, ...]

    @property
    def between(self) -> int:
        """Microseconds in which no operator ran: starting them, and writing down that they did."""
        return self.time - sum(op.time for op in self.operators if not op.taken)


def least(runs: Sequence[Run]) -> Run:
    """Of runs with one and the same feed: the least that every operator took, and between them."""
    operators = tuple(
        replace(same[0], time=min(operator.time for operator in same))
        for same in zip(*(run.operators for run in runs), strict=True)
    )
    between = min(run.between for run in runs)
    return Run(between - Run(0, operators).between, operators)


def profile(content: bytes, feeds: Sequence[Mapping[str, np.ndarray]], threads: int) -> list[Run]:
    """Run a file once with each of `feeds`, after one run that does not count.

    Profiling itself costs a microsecond or two for each operator, which weighs most on the
    smallest.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(content, options)
        session.run(None, feeds[0])
        with pinned(threads):
            for feed in feeds:
                session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _runs(events)[1:]


def _runs(events: Sequence[Mapping[str, Any]]) -> list[Run]:
    whole = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])
    ends = [event["ts"] + event["dur"] for event in whole]
    operators: list[list[Operator]] = [[] for _ in whole]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            operators[bisect_left(ends, event["ts"])].append(_operator(event))
    return [
        Run(event["dur"], tuple(within)) for event, within in zip(whole, operators, strict=True)
    ]


def _operator(event: Mapping[str, Any]) -> Operator:
    args = event["args"]
    return Operator(
        event["name"].removesuffix("_kernel_time"),
        args["op_name"],
        event["ts"],
        event["dur"],
        _shapes(args["input_type_shape"]),
        _shapes(args["output_type_shape"]),
    )


def _shapes(values: Sequence[Mapping[str, Sequence[int]]]) -> tuple[Shape, ...]:
    """Each value is written as {type: shape}."""
    return tuple(tuple(shape) for value in values for shape in value.values())
