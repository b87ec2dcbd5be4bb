"""What each part of the method is worth: the same chain without it, over several seeds."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import dsnet
from dsnet.models.architecture import Architecture
from dsnet.models.create import of_one_width
from dsnet.models.registry import ARCHITECTURES
from dsnet.models.width import RoutingSpace
from pipeline.cluster.progress import Progress
from pipeline.config import Config, config_from_dict
from pipeline.data.dataset import Dataset
from pipeline.stages import calibrate, evaluate, gate, supernet
from pipeline.stages.network import new_network
from pipeline.stages.stage import Inputs, Stage, Upstream
from pipeline.training.evaluation import Evaluation
from pipeline.training.local_worker import LocalWorker, alone

BOOTSTRAPS = ("labels", "distill", "plain", "ensemble")
ALONE = "alone"
"""In place of a bootstrap: a network of one width, trained by itself."""
STRATEGIES = ("off", "give_up", "try_best")


@dataclass(frozen=True)
class Ablation:
    """One training of the table: what was changed, and what the test images say."""

    bootstrap: str
    """Way of stage I, or ALONE."""
    sgs: str | None
    """Strategy of stage II; None where only the supernet is looked at."""
    seed: int
    reached: dict[str, float]
    """Mean of the task's headline over the test images, by row name: "width 0" …, "dynamic"."""
    share: float | None
    """The dynamic network's average multiply-adds over the widest's."""


def ablate(config: Config, dataset: Dataset, seeds: int) -> list[Ablation]:
    """Every way of stage I and, on ensemble bootstrapping, every strategy of stage II.

    Beside them the slimmest and the widest sub-network, each trained by itself for as long.
    One Ray task a training, in parallel. The config's own seed is the first of `seeds`.
    """
    train = ray.remote(num_cpus=1)(_trials)
    train_alone = ray.remote(num_cpus=1)(_alone)
    base = new_network(config).architecture
    routes = RoutingSpace(base).routes
    pending = []
    for seed in range(config.seed, config.seed + seeds):
        for bootstrap in BOOTSTRAPS:
            values = _changed(config, seed, bootstrap)
            pending.append(train.remote(values, dataset, bootstrap, seed))
        for width in (routes[0], routes[-1]):
            values, one = _changed(config, seed, "labels"), of_one_width(base, width)
            pending.append(train_alone.remote(values, dataset, one, f"width {width}", seed))
    trials: list[Ablation] = []
    with Progress("ablation", total=len(pending), unit="trainings") as progress:
        total = len(pending)
        while pending:
            done, pending = ray.wait(pending)
            trials += [trial for ref in done for trial in ray.get(ref)]
            progress.update(total - len(pending))
    return sorted(trials, key=_order)


def _order(trial: Ablation) -> tuple[int, int, int, list[str]]:
    strategy = -1 if trial.sgs is None else STRATEGIES.index(trial.sgs)
    return strategy, (*BOOTSTRAPS, ALONE).index(trial.bootstrap), trial.seed, [*trial.reached]


def _changed(config: Config, seed: int, bootstrap: str) -> dict[str, Any]:
    values = alone(config).as_dict()
    values["seed"] = seed
    values["supernet"]["bootstrap"] = bootstrap
    return values


def _trials(values: dict[str, Any], dataset: Dataset, bootstrap: str, seed: int) -> list[Ablation]:
    """One supernet, and for ensemble bootstrapping the gates on it."""
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), values, dataset)
        trials = [Ablation(bootstrap, None, seed, bench.train_supernet(), None)]
        if bootstrap == "ensemble":
            for strategy in STRATEGIES:
                values["gate"]["sgs"] = strategy
                bench.run(f"gate-{strategy}", gate.STAGE, model="calibrate")
                measured = bench.measure(f"gate-{strategy}", routed=True)
                trials.append(Ablation(bootstrap, strategy, seed, *measured))
        return trials


def _alone(
    values: dict[str, Any], dataset: Dataset, one: Architecture, row: str, seed: int
) -> list[Ablation]:
    """A network of one width, by itself, in the row of its width in a supernet."""
    ARCHITECTURES[one.name] = one  # in this process, where its loops run
    values["model"] |= {"arch": one.name, "routes": None}
    with tempfile.TemporaryDirectory() as folder:
        (value,) = _Bench(Path(folder), values, dataset).train_supernet().values()
    return [Ablation(ALONE, None, seed, {row: value}, None)]


@dataclass(frozen=True)
class _Bench:
    """The stages' loops, in this process, in one folder."""

    folder: Path
    values: dict[str, Any]
    dataset: Dataset

    def train_supernet(self) -> dict[str, float]:
        """Train and calibrate one, `calibrate` by name; the headline of each of its widths."""
        self.run("supernet", supernet.STAGE)
        self.run("calibrate", calibrate.STAGE, model="supernet")
        return self.measure("calibrate", routed=False)[0]

    def run(self, name: str, stage: Stage[Inputs], model: str = "") -> LocalWorker:
        """A stage's loop from its beginning; `model`: which one it goes on from."""
        config = config_from_dict(self.values)
        upstream = Upstream(config, self.dataset, self.folder / model / "model")
        with closing(LocalWorker(config, self.folder / name)) as worker:
            stage.loop(worker, stage.inputs.of(upstream))
        return worker

    def measure(self, model: str, routed: bool) -> tuple[dict[str, float], float | None]:
        """The headline of every row on the test images, and the dynamic network's share."""
        worker = self.run(f"evaluate-{model}", evaluate.STAGE, model)
        counts = Evaluation.from_dict(worker.metrics[-1]["evaluation"])
        rows = counts.rows(dsnet.load(self.folder / model / "model"))
        shares = [row.share for row in rows if routed and row.name == "dynamic"]
        kept = [row for row in rows if routed or row.name != "dynamic"]
        return {row.name: row.value for row in kept}, shares[0] if shares else None


def grouped(trials: list[Ablation]) -> Iterator[tuple[str, list[Ablation]]]:
    """Trials that differ in their seed alone, under the name of what was changed."""
    groups: dict[str, list[Ablation]] = {}
    for trial in trials:
        name = f"stage I: {trial.bootstrap}" if trial.sgs is None else f"SGS: {trial.sgs}"
        groups.setdefault(name, []).append(trial)
    yield from groups.items()
