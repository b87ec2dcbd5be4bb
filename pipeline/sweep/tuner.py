"""The trials of a sweep on Ray Tune: a gate on the table for each target, in seconds."""

import json
import logging
import os
import pickle
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler

from dsnet import InputError
from dsnet.routing.target import Target
from dsnet.tasks.base import Task
from dsnet.training.table_gate import TrainedGate
from pipeline.cluster import progress_actor
from pipeline.cluster.interrupts import handlers_kept
from pipeline.config import Config, storage_dir
from pipeline.runner.checks import check_look
from pipeline.runner.tables import Tables
from pipeline.stages.network import new_network
from pipeline.stages.table_gate import gate_options
from pipeline.sweep import trial
from pipeline.sweep.search import METRIC, MODE, TargetSearch, asha, choices, optuna_search

logger = logging.getLogger(__name__)

EVERY = "every"  # the trial whose one set of heads serves all targets, each at its own price


@dataclass(frozen=True)
class Trial:
    """One point of a sweep: what was tried, and the gate it gave, if it did."""

    target: str
    """As it was asked for, or `EVERY`."""
    point: dict[str, Any]
    """What of the configuration it changed."""
    gate: TrainedGate | None
    error: str | None = None
    """What it failed with."""
    stopped: bool = False
    """Whether the scheduler stopped it early, because it was behind others of its target."""
    reached: Mapping[str, float] = field(default_factory=dict)
    """What it reported last: step, loss, gap, the task's measures and average_madds (of held-out
    images) and memory_mb, the most that its process took beyond its imports, table included."""


def run_trials(config: Config, targets: Sequence[Target], tables: Tables, key: str) -> list[Trial]:
    """Train a gate for each target and point of the search space, and one for every target.

    key: the sweep's fingerprint. Killed and started again, a sweep goes on: trials that ended are
    not run again. A trial that fails is reported, and the others go on.
    """
    folder = storage_dir(config) / "sweeps" / f"{config.name}-{key[:12]}" / "trials"
    gates, total = folder / "gates", trials_of(config, targets)
    train = tables.arrays("train")
    counts = [int(count) for count in train["paths"].madds]
    wanted = {str(target): target.madds(counts) for target in targets}
    with progress_actor.shown("sweep", "trials") as progress:
        trainable = tune.with_resources(
            tune.with_parameters(
                trial.run,
                options=gate_options(config),
                targets={EVERY: [*wanted.values()], **{name: [m] for name, m in wanted.items()}},
                train=train,
                holdout=tables.arrays("holdout"),
                gates=str(gates),
                ended=partial(progress.add.remote, total),
            ),
            {"cpu": config.sweep.cpus_per_trial},
        )
        if can_go_on(folder):
            logger.info("sweep %s goes on where it stopped", folder.parent.name)
            tuner = tune.Tuner.restore(str(folder), trainable)
        else:
            tuner = _tuner(config, targets, trainable, folder)
        # Tune's newer output prints a banner however silent it is to be.
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        with handlers_kept():
            found = tuner.fit()
        ended = [found[i] for i in range(len(found)) if _ended(found[i], gates)]
        if len(ended) < total:  # Tune catches Ctrl-C, and gives what there is by then
            raise KeyboardInterrupt
        figures = figures_of(train["task"])
        return [_read(result, gates, figures) for result in ended]


def figures_of(task: Task) -> list[str]:
    """What trials report of a gate: `Trial.reached`, by name."""
    measures = [measure.name for measure in task.measures]
    return ["step", "loss", "gap", *measures, "average_madds", "memory_mb"]


def names_of(targets: Sequence[Target]) -> list[str]:
    """What trials are made for, the longest first: `EVERY`, then each target."""
    return [EVERY, *map(str, targets)]


def trials_of(config: Config, targets: Sequence[Target]) -> int:
    """How many trials the sweep has."""
    if config.sweep.search == "optuna":
        return config.sweep.samples * len(names_of(targets))
    return len(points(config, targets))


def points(config: Config, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """What a grid tries, or a random search: for each of `names_of` all combinations of the
    config's lists, or so many different ones as it has samples.
    """
    sweep, lists = config.sweep, choices(config)
    every = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    drawn = []
    for target in names_of(targets):
        here = every
        if sweep.search == "random":
            generator = random.Random(f"{config.seed} {target}")
            here = generator.sample(every, min(sweep.samples, len(every)))
        drawn += [{"target": target, **point} for point in here]
    return drawn


def check_targets(targets: Sequence[Target], config: Config) -> None:
    """Raise InputError, with the range, for a target that the routing space cannot meet."""
    if not targets:
        raise InputError("--targets: expected at least one, such as 0.3,0.5,200M, found none")
    if len(set(map(str, targets))) < len(targets):
        raise InputError(f"--targets: expected each once, found {', '.join(map(str, targets))}")
    model = new_network(config)
    for target in targets:
        target.madds([model.madds(i, config.data.resolution) for i in model.space.routes])
    check_look(config, model, config.sweep.look)


def can_go_on(folder: Path) -> bool:
    """Whether Tune wrote down in `folder`, whole, how far it came and what it has drawn.

    It does so every ten seconds, in place, and a kill may come in the middle of it. Begun anew, a
    sweep still finds its gates.
    """
    states = sorted(folder.glob("experiment_state-*.json"))
    if not states or not tune.Tuner.can_restore(str(folder)):
        return False
    try:
        json.loads(states[-1].read_text())
        for searched in sorted(folder.glob("searcher-state-*.pkl"))[-1:]:
            TargetSearch({}).restore(str(searched))
    except (ValueError, EOFError, pickle.UnpicklingError):
        return False
    return True


def _tuner(
    config: Config, targets: Sequence[Target], trainable: Callable[..., object], folder: Path
) -> tune.Tuner:
    """The search from its beginning."""
    names = names_of(targets)
    searched = config.sweep.search == "optuna"
    halved = config.sweep.scheduler == "asha"
    listed = {} if searched else {"point": tune.grid_search(points(config, targets))}
    return tune.Tuner(
        trainable,
        param_space=listed,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            reuse_actors=True,
            mode=MODE,
            search_alg=optuna_search(config, names) if searched else None,
            num_samples=trials_of(config, targets) if searched else 1,
            scheduler=asha(config.table.steps, names) if halved else FIFOScheduler(),
        ),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    )


def _ended(result: tune.Result, gates: Path) -> bool:
    """Whether a trial has failed, or told its last; or left its gate and then heard a kill.

    Tune may have written down that it ended, and not yet its last report: it runs no more.
    """
    if result.error or (result.metrics or {}).get("done"):
        return True
    began = bool(result.metrics) or Path(result.path, "params.json").is_file()
    return began and trial.place_of(gates, _point(result)).is_dir()


def _point(result: tune.Result) -> dict[str, Any]:
    metrics = result.metrics or {}
    # A process that died in its first seconds has told nothing, not even what it was.
    config = metrics.get("config") or json.loads(Path(result.path, "params.json").read_text())
    return dict(config["point"])


def _read(result: tune.Result, gates: Path, figures: Sequence[str]) -> Trial:
    """What became of one trial."""
    metrics = result.metrics or {}
    point = _point(result)
    place = trial.place_of(gates, point)
    target = point.pop("target")
    reached = {name: metrics[name] for name in figures if name in metrics}
    if place.is_dir():
        return Trial(target, point, trial.read_gate(place), reached=reached)
    if result.error is None:
        return Trial(target, point, None, stopped=True, reached=reached)
    return Trial(target, point, None, str(result.error).strip().splitlines()[-1], reached=reached)
