"""One trial of a sweep, in its own process: a gate on the table for one target, or for all.

Whatever is imported here, every trial that runs holds for itself: the rest of the pipeline stays
out, with MLflow, FFCV and Numba.
"""

import hashlib
import json
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from ray import tune
from safetensors.torch import load_file, save_file

from dsnet.io.files import atomic_directory
from dsnet.nn.gate import heads_from_tensors, heads_to_tensors
from dsnet.routing import Frontier, Outcome, RoutingTable, frontier
from dsnet.training.table_gate import GateOptions, TrainedGate, train_gate
from pipeline.routing_table.arrays import Arrays, from_arrays

HEADS, FACTS = "heads.safetensors", "gate.json"

_AFTER_IMPORTS = psutil.Process().memory_info().rss


def run(
    config: Mapping[str, dict[str, Any]],
    *,
    options: GateOptions,
    targets: Mapping[str, Sequence[float]],
    train: Arrays,
    holdout: Arrays,
    gates: str,
    ended: Callable[[], object],
) -> None:
    """One trial. The tables are views of the node's shared memory.

    config: Tune's, a `point` alone: the name of its target, and what it changes of `options`.
    targets: by name, average multiply-adds. ended: called when no more will come, whatever the
    reason.

    Its gate goes to its own folder, whole or not at all: Tune writes down what has ended only
    now and then, and a trial that it forgot finds its gate there.
    """
    torch.set_num_threads(1)
    table, held_out = from_arrays(train), from_arrays(holdout)
    random_routing = random_losses(held_out)
    point = config["point"]
    changed = {name: value for name, value in point.items() if name != "target"}
    here = replace(options, **changed)

    def report(step: int, gate: TrainedGate) -> None:
        reached = {"step": step, **figures(gate, random_routing), "memory_mb": memory_taken()}
        tune.report(reached)

    def look(step: int, best: TrainedGate) -> None:
        if step < here.steps:  # the last word is said when the gate is in its place
            report(step, best)

    place = place_of(Path(gates), point)
    try:
        if not place.is_dir():
            trained = train_gate(table, held_out, targets[point["target"]], here, look)
            with atomic_directory(place) as folder:
                write_gate(folder, trained)
        gate = read_gate(place)
        report(gate.steps, gate)
    finally:
        ended()


def figures(gate: TrainedGate, random_routing: Frontier) -> dict[str, float]:
    """What a gate reaches on held-out images, averaged over its targets.

    gap: loss less that of random routing at the same multiply-adds; below 0 is better. The task's
    measures are there by their names.
    """
    outcomes = gate.outcomes
    n = len(outcomes)
    return {
        "loss": gate.loss,
        "gap": sum(o.loss - random_routing.at(o.madds) for o in outcomes) / n,
        **{name: sum(o.measures[name] for o in outcomes) / n for name in outcomes[0].measures},
        "average_madds": sum(o.madds for o in outcomes) / n,
    }


def random_losses(table: RoutingTable) -> Frontier:
    """Mean loss of the best random mixture of paths, at each average of multiply-adds."""
    mean = table.losses.double().mean(0, keepdim=True)
    return frontier(mean.numpy(), table.paths.madds.numpy())


def memory_taken() -> float:
    """The most that this process has taken so far beyond its imports, in MB of resident memory.

    Pages of a table count once they have been read, though all processes of a node share them. A
    process serves several trials, one after the other.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (peak - _AFTER_IMPORTS) / 1e6


def write_gate(folder: Path, gate: TrainedGate) -> None:
    """A trained gate as safetensors and JSON, in an existing folder."""
    save_file(heads_to_tensors(gate.heads), folder / HEADS)
    facts = {k: v for k, v in vars(gate).items() if k not in ("heads", "outcomes")}
    facts["outcomes"] = [asdict(outcome) for outcome in gate.outcomes]
    (folder / FACTS).write_text(json.dumps(facts))


def read_gate(folder: Path) -> TrainedGate:
    """The inverse of `write_gate`, for linear heads and those with a hidden layer."""
    facts = json.loads((folder / FACTS).read_text())
    outcomes = tuple(
        Outcome(**{**values, "shares": tuple(values["shares"])}) for values in facts.pop("outcomes")
    )
    facts |= {"targets": tuple(facts["targets"]), "prices": tuple(facts["prices"])}
    heads = heads_from_tensors(load_file(folder / HEADS))
    for head in heads:
        head.requires_grad_(False)
    return TrainedGate(heads=heads, outcomes=outcomes, **facts)


def place_of(gates: Path, point: dict[str, Any]) -> Path:
    """The folder of a trial's gate, by what the trial is."""
    text = json.dumps(point, sort_keys=True)
    return gates / hashlib.sha256(text.encode()).hexdigest()[:16]
