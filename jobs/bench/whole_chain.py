"""`dsnet run` in a process of its own, timed by what it says, and the least that Ray takes."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bench.interleaved import Figure

CONFIG: dict[str, Any] = {
    "name": "overhead",
    "data": {"source": "digits", "recipe": "digits"},
    "model": {"arch": "ds_mbnet_digits", "dropout": 0.0},
    "cluster": {"workers": 2},
    "supernet": {"epochs": 1, "warmup_epochs": 0, "batch_size": 64},
    "gate": {"method": "straight_through", "epochs": 1, "target": 0.5},
}

# What ends a part, as the command says it; of several lines the last.
_PLANNED, _STARTED = re.compile(r"evaluate: will run"), re.compile(r"workers started")
_SETTLED = re.compile(r"champion of ")
_AT_WORK = re.compile(r": done in (?:(\d+):(\d\d)|([\d.]+) s)")


def chain() -> list[Figure]:
    """A chain from nothing, part by part, and the same command again."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(json.dumps(CONFIG))
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


def nothing() -> list[Figure]:
    """A cluster, two workers that do nothing, and their end, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        _, ended = _lines([sys.executable, "-m", "jobs.bench.nothing"], folder)
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
