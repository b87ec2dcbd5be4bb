"""Measuring in turns, A B A B, in one process, and what the rounds say.

Two times are taken. Wall clock is what a user waits for. CPU seconds, of all threads of this
process and its children, are steadier on a machine that is shared.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from jobs.bench.record import Record
from pipeline.cluster.progress import Progress

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One number that a measurement gives; `what` names it where there are several."""

    value: float
    unit: str
    what: str = ""


Measure = Callable[[], Sequence[Figure]]
Rounds = Sequence[Mapping[str, Sequence[Figure]]]
"""For each round, what every measure gave."""


def compare(
    group: str,
    measures: Mapping[str, Measure],
    *,
    runs: int,
    against: str | Mapping[str, str] | None = None,
    warmups: int = 1,
) -> list[Record]:
    """Measure everything once a round, in the same order; one record for each figure.

    group: begins every record's name. against: the one that all others are compared with, or for
    each the one that it is. warmups: rounds before those that count.
    """
    if isinstance(against, str):
        against = dict.fromkeys(measures.keys() - {against}, against)
    rounds = take_turns(group, measures, runs=runs, warmups=warmups)
    records = []
    for name in measures:
        for figure in rounds[0][name]:
            other = (against or {}).get(name)
            others = values(rounds, other, figure.what) if other else []
            compared = (_title(group, other, figure.what), others) if other and others else ()
            mine = values(rounds, name, figure.what)
            records.append(summary(_title(group, name, figure.what), figure.unit, mine, *compared))
    return records


def take_turns(
    group: str, measures: Mapping[str, Measure], *, runs: int, warmups: int = 1
) -> list[dict[str, Sequence[Figure]]]:
    """Measure everything once a round, in the same order: the figures of each round that counts."""
    rounds: list[dict[str, Sequence[Figure]]] = []
    total = (runs + warmups) * len(measures)
    with Progress(f"bench {group}", total=total, unit="measurements") as progress:
        for turn in range(runs + warmups):
            figures = {}
            for index, (name, measure) in enumerate(measures.items()):
                figures[name] = measure()
                progress.update(turn * len(measures) + index + 1)
            if turn >= warmups:
                rounds.append(figures)
    return rounds


def summary(
    name: str,
    unit: str,
    values: Sequence[float],
    against: str | None = None,
    others: Sequence[float] = (),
) -> Record:
    """The record of a value per round, and of what the other one was in the same rounds."""
    record = Record(name, unit, median(values), (min(values), max(values)), len(values))
    if against is None:
        return record
    ratio = median(value / other for value, other in zip(values, others, strict=True))
    return replace(record, against=against, ratio=ratio)


def values(rounds: Rounds, name: str, what: str = "") -> list[float]:
    """One number of every round; none if `name` does not measure it."""
    return [figure.value for figures in rounds for figure in figures[name] if figure.what == what]


def _title(*parts: str) -> str:
    return " ".join(part for part in parts if part)


# What to measure ---------------------------------------------------------------------------------


def throughput(
    call: Callable[[], object], items: int, *, item: str = "image", seconds: float = 0.0
) -> Measure:
    """Items per second, and CPU milliseconds per item; a call handles `items` of them.

    seconds: a call that takes less is repeated until they have gone by.
    """

    def measure() -> list[Figure]:
        wall = cpu = 0.0
        calls = 0
        while not calls or wall < seconds:
            one = clocked(call)
            wall, cpu, calls = wall + one[0], cpu + one[1], calls + 1
        return [
            Figure(calls * items / wall, f"{item}s/s"),
            Figure(1000 * cpu / (calls * items), f"CPU ms/{item}", "CPU"),
        ]

    return measure


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that `call` takes: by the clock, and of CPUs."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    call()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    """CPU seconds so far: this process, its children that ended, and those that are there."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for child in multiprocessing.active_children():
        with suppress(OSError):  # it has just ended, or this is not Linux
            # Past its name, which may hold anything: utime and stime are fields 14 and 15.
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ended.ru_utime + ended.ru_stime + ticks / TICKS_PER_SECOND
