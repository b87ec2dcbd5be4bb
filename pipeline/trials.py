"""The trials of a sweep on Ray Tune: a gate on the table for each target, in seconds."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from safetensors.torch import load_file, save_file

from dsnet import InputError, create_model
from dsnet.atomic import atomic_directory
from dsnet.gate import head_from
from dsnet.routing import Frontier, Outcome, RoutingTable, frontier
from dsnet.target import Target, parse_target
from dsnet.training.table import TrainedGate, train_gate
from pipeline import board
from pipeline.config import Config, config_from_dict, storage_dir
from pipeline.table import from_arrays
from pipeline.table.read import Arrays
from pipeline.table_gate import how
from pipeline.tables import Tables

logger = logging.getLogger(__name__)

EVERY = "every"  # the trial whose one set of heads serves all targets, each at its own price
HEADS, FACTS = "heads.safetensors", "gate.json"


@dataclass(frozen=True)
class Trial:
    """One point of a sweep: what was tried, and the gate it gave or the error it ended with."""

    target: str
    """As it was asked for, or `EVERY`."""
    point: dict[str, Any]
    """What of the configuration it changed."""
    gate: TrainedGate | None
    error: str | None = None


def run_trials(config: Config, targets: Sequence[Target], tables: Tables, key: str) -> list[Trial]:
    """Train a gate for each target and point of the search space, and one for every target.

    key: the sweep's fingerprint. Killed and started again, a sweep goes on: trials that ended are
    not run again. A trial that fails is reported, and the others go on.
    """
    folder = storage_dir(config) / "sweeps"
    name = f"{config.name}-{key[:12]}"
    gates = folder / name / "gates"
    with board.shown("sweep", "trials") as progress:
        trainable = tune.with_resources(
            tune.with_parameters(
                _trial,
                values=config.as_dict(),
                targets=[str(target) for target in targets],
                train=tables.arrays("train"),
                holdout=tables.arrays("holdout"),
                gates=str(gates),
                ended=partial(progress.add.remote, trials_of(config, targets)),
            ),
            {"cpu": config.sweep.cpus_per_trial},
        )
        if tune.Tuner.can_restore(str(folder / name)):
            logger.info("sweep %s goes on where it stopped", name)
            tuner = tune.Tuner.restore(str(folder / name), trainable)
        else:
            tuner = tune.Tuner(
                trainable,
                param_space=search_space(config, targets),
                tune_config=tune.TuneConfig(
                    metric="gap",
                    mode="min",
                    num_samples=config.sweep.samples if config.sweep.search == "random" else 1,
                    scheduler=scheduler(config),
                ),
                run_config=tune.RunConfig(name=name, storage_path=str(folder), verbose=0),
            )
        results = tuner.fit()
        return [_read(results[index], gates) for index in range(len(results))]


def search_space(config: Config, targets: Sequence[Target]) -> dict[str, Any]:
    """Every target and `EVERY`, times the config's lists: all of them, or drawn from at random."""
    sweep = config.sweep
    lists = {"lr": sweep.lr, "sgs_weight": sweep.lambda_sgs, "sgs": sweep.sgs}
    pick = tune.choice if sweep.search == "random" else tune.grid_search
    space = {name: pick(list(values)) for name, values in lists.items()}
    return {"target": tune.grid_search([*(str(t) for t in targets), EVERY]), **space}


def scheduler(config: Config) -> TrialScheduler:
    """ASHA on the gap to random routing, which compares trials of different targets; or none."""
    if config.sweep.scheduler == "asha":
        return ASHAScheduler(max_t=config.table.steps, grace_period=5)
    return FIFOScheduler()


def check_targets(targets: Sequence[Target], config: Config) -> None:
    """Raise InputError, with the range, for a target that the routing space cannot meet."""
    if not targets:
        raise InputError("--targets: expected at least one, such as 0.3,0.5,200M, found none")
    if len(set(map(str, targets))) < len(targets):
        raise InputError(f"--targets: expected each once, found {', '.join(map(str, targets))}")
    model = create_model(config.model.arch, config.model.num_classes, routes=config.model.routes)
    for target in targets:
        target.madds([model.madds(i, config.data.resolution) for i in model.space.routes])


def _trial(
    point: dict[str, Any],
    *,
    values: dict[str, Any],
    targets: list[str],
    train: Arrays,
    holdout: Arrays,
    gates: str,
    ended: Callable[[], object],
) -> None:
    """One trial, in its own process. The tables are views of the node's shared memory.

    Its gate goes to a place of its own, whole or not at all: Tune writes down what has ended only
    now and then, and a trial that it forgot finds its gate there.
    """
    torch.set_num_threads(1)
    config = config_from_dict(values)
    changed = {name: value for name, value in point.items() if name != "target"}
    table, held_out = from_arrays(train), from_arrays(holdout)
    wanted = targets if point["target"] == EVERY else [point["target"]]
    madds = [parse_target(text).madds([int(m) for m in table.paths.madds]) for text in wanted]
    by_lot = random_losses(held_out)

    def report(_step: int, best: TrainedGate) -> None:
        tune.report(figures(best, by_lot))

    place = place_of(Path(gates), point)
    if not place.is_dir():
        trained = train_gate(table, held_out, madds, how(config, **changed), report)
        with atomic_directory(place) as folder:
            write_gate(folder, trained)
    tune.report(figures(read_gate(place), by_lot))
    ended()


def figures(gate: TrainedGate, by_lot: Frontier) -> dict[str, float]:
    """What a gate reaches on held-out images, averaged over its targets.

    gap: cross-entropy less that of random routing at the same multiply-adds; below 0 is better.
    """
    outcomes = gate.outcomes
    n = len(outcomes)
    return {
        "loss": gate.loss,
        "gap": sum(o.loss - by_lot.at(o.madds) for o in outcomes) / n,
        "top1": sum(o.top1 for o in outcomes) / n,
        "average_madds": sum(o.madds for o in outcomes) / n,
    }


def random_losses(table: RoutingTable) -> Frontier:
    """Mean cross-entropy of the best random mixture of paths, at each average of multiply-adds."""
    mean = table.losses.double().mean(0, keepdim=True)
    return frontier(mean.numpy(), table.paths.madds.numpy())


def write_gate(folder: Path, gate: TrainedGate) -> None:
    """A trained gate as safetensors and JSON, in an existing folder."""
    tensors = {
        f"{index}.{name}": value.contiguous()
        for index, head in enumerate(gate.heads)
        for name, value in head.state_dict().items()
    }
    save_file(tensors, folder / HEADS)
    facts = {k: v for k, v in vars(gate).items() if k not in ("heads", "outcomes")}
    facts["outcomes"] = [asdict(outcome) for outcome in gate.outcomes]
    (folder / FACTS).write_text(json.dumps(facts))


def read_gate(folder: Path) -> TrainedGate:
    """The inverse of `write_gate`."""
    tensors = load_file(folder / HEADS)
    facts = json.loads((folder / FACTS).read_text())
    heads = []
    for index in range(len({name.split(".")[0] for name in tensors})):
        weight = tensors[f"{index}.weight"]
        head = head_from({"weight": weight}).requires_grad_(False)
        heads.append(head)
    outcomes = tuple(
        Outcome(**{**values, "shares": tuple(values["shares"])}) for values in facts.pop("outcomes")
    )
    facts |= {"targets": tuple(facts["targets"]), "prices": tuple(facts["prices"])}
    return TrainedGate(heads=tuple(heads), outcomes=outcomes, **facts)


def _read(result: tune.Result, gates: Path) -> Trial:
    """What became of one trial."""
    point = dict(result.config or {})
    place = place_of(gates, point)
    target = str(point.pop("target"))
    if result.error is not None or not place.is_dir():
        lines = str(result.error).strip().splitlines() or ["it ended before its gate was written"]
        return Trial(target, point, None, lines[-1])
    return Trial(target, point, read_gate(place))


def place_of(gates: Path, point: dict[str, Any]) -> Path:
    """The folder of a trial's gate, by what the trial is."""
    text = json.dumps(point, sort_keys=True)
    return gates / hashlib.sha256(text.encode()).hexdigest()[:16]


def trials_of(config: Config, targets: Sequence[Target]) -> int:
    """How many trials the search space has."""
    sweep = config.sweep
    points = sweep.samples
    if sweep.search == "grid":
        points = len(sweep.lr) * len(sweep.lambda_sgs) * len(sweep.sgs)
    return points * (len(targets) + 1)
