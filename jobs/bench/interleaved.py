"""Measuring in turns, A B A B, in one process, and what the rounds say.

Two times are taken. Wall clock is what a user waits for. CPU seconds, of all threads of this
process and of those of its children that ended meanwhile, are steadier on a machine that is shared.
"""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from jobs.bench.record import Record
from pipeline.progress import Progress


@dataclass(frozen=True)
class Figure:
    """One number that a measurement gives; `what` tells several of one measurement apart."""

    value: float
    unit: str
    what: str = ""


Measure = Callable[[], Sequence[Figure]]


def compare(
    group: str,
    measures: Mapping[str, Measure],
    *,
    runs: int,
    against: str | None = None,
    warmups: int = 1,
) -> list[Record]:
    """Measure everything once a round, in the same order; one record for each figure.

    group: begins every record's name. against: the one that the others are compared with.
    warmups: rounds before those that count.
    """
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
    return [
        _record(group, name, index, rounds, against)
        for name in measures
        for index in range(len(rounds[0][name]))
    ]


def _record(
    group: str,
    name: str,
    index: int,
    rounds: Sequence[Mapping[str, Sequence[Figure]]],
    against: str | None,
) -> Record:
    figure = rounds[0][name][index]
    values = [figures[name][index].value for figures in rounds]
    record = Record(
        name=_title(group, name, figure.what),
        unit=figure.unit,
        value=median(values),
        spread=(min(values), max(values)),
        runs=len(values),
    )
    if against is None or against == name:
        return record
    others = [figures[against][index].value for figures in rounds]
    ratio = median(value / other for value, other in zip(values, others, strict=True))
    return Record(
        **{**vars(record), "against": _title(group, against, figure.what), "ratio": ratio}
    )


def _title(*parts: str) -> str:
    return " ".join(part for part in parts if part)


# What to measure ---------------------------------------------------------------------------------


def throughput(call: Callable[[], object], items: int, item: str = "image") -> Measure:
    """Calls that handle `items` items each: items per second, and CPU milliseconds per item."""

    def measure() -> list[Figure]:
        wall, cpu = clocked(call)
        return [
            Figure(items / wall, f"{item}s/s"),
            Figure(1000 * cpu / items, f"CPU ms/{item}", "CPU"),
        ]

    return measure


def latency(call: Callable[[], object], calls: int = 1) -> Measure:
    """Milliseconds, and CPU milliseconds, of one call; `calls` of them are timed together."""

    def measure() -> list[Figure]:
        wall, cpu = clocked(lambda: [call() for _ in range(calls)])
        return [
            Figure(1000 * wall / calls, "ms"),
            Figure(1000 * cpu / calls, "CPU ms", "CPU"),
        ]

    return measure


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that `call` takes: by the clock, and of CPUs."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    call()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
