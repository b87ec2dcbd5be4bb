"""What Ray Train and all else around the loops take: of a whole chain, and once it trains."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.bench import steady
from jobs.bench.interleaved import Figure, compare
from jobs.bench.options import Options
from jobs.bench.record import Record

# What ends a part, as the command says it; of several lines the last.
_PLANNED, _STARTED = re.compile(r"evaluate: will run"), re.compile(r"workers are there")
_SETTLED = re.compile(r"champion of ")
_AT_WORK = re.compile(r": done in (?:(\d+):(\d\d)|([\d.]+) s)")


# The least that Ray Train takes: a cluster, two workers that do nothing, and their end.
_NOTHING = """
import tempfile
import ray
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import RunConfig, ScalingConfig
from pipeline.cluster import ray_cluster
ray_cluster.start()
with tempfile.TemporaryDirectory() as folder:
    scaling, run = ScalingConfig(num_workers=2), RunConfig(storage_path=folder)
    TorchTrainer(lambda: None, scaling_config=scaling, run_config=run).fit()
ray.shutdown()
"""


def bench(options: Options) -> list[Record]:
    """Seconds around the loops of a whole chain, part by part; then what a step costs under Ray.

    First `dsnet run` with stages of one epoch on the digits and two workers, in a new folder each
    time, then the same command again; compared with a Ray Train run whose workers do nothing. Then
    epochs of stage I by workers of Ray Train, compared with processes of torch.distributed alone.
    """
    for variable in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        os.environ.pop(variable, None)
    records = compare(
        "overhead",
        {"nothing": _nothing, "chain": _chain},
        against="nothing",
        runs=options.runs,
        warmups=0,
    )
    epochs = 2 if options.quick else steady.EPOCHS
    return records + compare(
        "overhead steady",
        {
            "torch.distributed": lambda: steady.plain(epochs),
            "Ray Train": lambda: steady.on_ray(epochs),
        },
        against="torch.distributed",
        runs=options.runs,
        warmups=0,
    )


def _chain() -> list[Figure]:
    """A chain from nothing, part by part, and the same command again."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(json.dumps(steady.CONFIG))
        command = [sys.executable, "-m", "jobs.cli", "run", "--config", str(config)]
        began = time.monotonic()
        lines, ended = _lines(command, folder)
        planned, started, settled = (_last(lines, p) for p in (_PLANNED, _STARTED, _SETTLED))
        loops = sum(_seconds(match) for _, line in lines if (match := _AT_WORK.search(line)))
        again = time.monotonic()
        _, found = _lines(command, folder)
    return [
        Figure(ended - began, "s"),
        Figure(planned - began, "s", "imports, data, plan"),
        Figure(started - planned, "s", "start of Ray and workers"),
        Figure(loops, "s", "stages at work"),
        Figure(settled - started - loops, "s", "between stages"),
        Figure(ended - settled, "s", "end"),
        Figure(ended - planned - loops, "s", "around the loops, from Ray's start"),
        Figure(ended - began - loops, "s", "around the loops"),
        Figure(found - again, "s", "the second time"),
    ]


def _nothing() -> list[Figure]:
    """What _NOTHING takes, with its imports."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        _, ended = _lines([sys.executable, "-c", _NOTHING], folder)
    return [Figure(ended - began, "s")]


def _lines(command: list[str], home: str) -> tuple[list[tuple[float, str]], float]:
    """What a command says on stderr, each line with its moment, and the moment of its end.

    Raises RuntimeError with what it said if it fails.
    """
    environment = {**os.environ, "DSNET_HOME": home}
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=null, stderr=pipe, text=True, env=environment) as process:
        assert process.stderr is not None
        lines = [(time.monotonic(), line) for line in process.stderr]
    if process.returncode:
        raise RuntimeError("".join(line for _, line in lines))
    return lines, time.monotonic()


def _last(lines: list[tuple[float, str]], pattern: re.Pattern[str]) -> float:
    return max(moment for moment, line in lines if pattern.search(line))


def _seconds(match: re.Match[str]) -> float:
    minutes, rest, short = match.groups()
    return float(short) if short else 60.0 * int(minutes) + int(rest)
