"""What one more target costs: eight gates on one routing table, or each by straight-through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dsnet.routing import Paths, RoutingTable
from dsnet.training.table_gate import train_gate
from jobs.bench.gate_setting import Setting
from jobs.bench.interleaved import Figure, Measure, clocked, summary, take_turns
from jobs.bench.record import Record
from pipeline.stages.table_gate import gate_options

TARGETS = 8
Rounds = Sequence[Mapping[str, Sequence[Figure]]]


def cost(setting: Setting, title: str, runs: int) -> list[Record]:
    """Seconds, and CPU seconds, of a table, of gates on it and of a gate by straight-through."""
    _warm_up(setting)
    rounds = take_turns(title, _ways(setting), runs=runs, warmups=0)
    return [record for index in range(2) for record in cost_records(title, rounds, index)]


def _ways(setting: Setting) -> dict[str, Measure]:
    """The three that take turns; the gates are trained on the table of their round."""
    tables: dict[str, RoutingTable] = {}

    def table() -> None:
        tables.update(train=setting.table("train"), holdout=setting.table("holdout"))

    def gates() -> None:
        train, held_out = tables["train"], tables["holdout"]
        for target in spread_targets(train.paths, TARGETS):
            train_gate(train, held_out, [target], gate_options(setting.config))

    return {
        "table": partial(_seconds, table),
        "gates": partial(_seconds, gates),
        "straight-through": partial(_seconds, setting.straight_through),
    }


def _seconds(call: Callable[[], object]) -> list[Figure]:
    wall, cpu = clocked(call)
    return [Figure(wall, "s"), Figure(cpu, "CPU s", "CPU")]


def spread_targets(paths: Paths, count: int) -> list[float]:
    """Average multiply-adds, evenly between those of the slimmest and of the widest path."""
    low, high = float(paths.madds.min()), float(paths.madds.max())
    return [low + (high - low) * (index + 1) / (count + 1) for index in range(count)]


def cost_records(title: str, rounds: Rounds, index: int) -> list[Record]:
    """index: 0 for seconds, 1 for CPU seconds."""

    def values(name: str) -> list[float]:
        return [figures[name][index].value for figures in rounds]

    figure = rounds[0]["table"][index]
    after = f" {figure.what}" if figure.what else ""
    table, gates, straight = values("table"), values("gates"), values("straight-through")
    each = [gate / TARGETS for gate in gates]
    records = [
        summary(f"{title}: routing table{after}", figure.unit, table),
        summary(f"{title}: gate on the table{after}", figure.unit, each),
    ]
    for targets in (TARGETS, 1):
        by_table = f"{title}: a target of {targets}, table{after}"
        shares = [whole / targets + gate for whole, gate in zip(table, each, strict=True)]
        records.append(summary(by_table, figure.unit, shares))
        # Each further target costs it as much as the first.
        name = f"{title}: a target of {targets}, straight-through{after}"
        records.append(summary(name, figure.unit, straight, by_table, shares))
    return records


def _warm_up(setting: Setting) -> None:
    """Both ways on a batch: what is compiled, and every buffer's first use, is in no round."""
    few = replace(
        setting,
        images=setting.images[: setting.config.gate.batch_size],
        aside=setting.aside[: setting.config.gate.batch_size],
    ).changed(gate={"epochs": 1}, table={"views": 1, "steps": 1})
    for way in _ways(few).values():
        way()
