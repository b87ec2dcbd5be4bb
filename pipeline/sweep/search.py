"""Search within each target: what is good for 200M says little about what is good for 500M.

Every target has its own study, and its trials compete with each other alone, all in one
experiment, so that no target goes without and trials of several run side by side.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
)
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from pipeline.config import Config

METRIC, MODE = "gap", "min"


class TargetSearch(Searcher):
    """A search for each target; they draw in turn, and each learns from its trials alone."""

    def __init__(self, searches: Mapping[str, Searcher]) -> None:
        """searches: by target, each with its own space and metric."""
        super().__init__(METRIC, MODE)
        self._searches = dict(searches)
        self.drawn: dict[str, str] = {}
        """The target of each trial so far, by the trial's id."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        names = list(self._searches)
        target = names[len(self.drawn) % len(names)]
        self.drawn[trial_id] = target
        drawn = self._searches[target].suggest(trial_id)
        assert isinstance(drawn, dict)
        return {"point": {"target": target, **drawn}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._search_of(trial_id).on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._search_of(trial_id).on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Tune calls it with the state of the experiment.

        A pickle, like Tune's own state: this is a cluster's scratch folder, and nothing that is
        registered or passed on.
        """
        Path(checkpoint_path).write_bytes(pickle.dumps((self._searches, self.drawn)))

    def restore(self, checkpoint_path: str) -> None:
        """The inverse of `save`."""
        self._searches, self.drawn = pickle.loads(Path(checkpoint_path).read_bytes())

    def _search_of(self, trial_id: str) -> Searcher:
        return self._searches[self.drawn[trial_id]]


class TargetScheduler(FIFOScheduler):
    """A scheduler for each target, so that a trial is compared with those of its target alone."""

    def __init__(self, schedulers: Mapping[str, FIFOScheduler]) -> None:
        """schedulers: by target."""
        super().__init__()
        self._schedulers = dict(schedulers)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        told = [each.set_search_properties(metric, mode) for each in self._schedulers.values()]
        return super().set_search_properties(metric, mode, **spec) and all(told)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return self._of(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Trial) -> FIFOScheduler:
        return self._schedulers[trial.config["point"]["target"]]


def optuna_search(config: Config, names: list[str]) -> TargetSearch:
    """A study of Optuna's for each target, seeded from the config's seed.

    The first quarter of a target's samples is drawn at random; what follows is drawn by what the
    ended trials of the target say (a tree-structured Parzen estimator).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for every study
    startup = max(1, config.sweep.samples // 4)

    def study(number: int) -> OptunaSearch:
        sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=config.seed + number)
        return OptunaSearch(space=optuna_space(config), metric=METRIC, mode=MODE, sampler=sampler)

    return TargetSearch({name: study(number) for number, name in enumerate(names)})


def choices(config: Config) -> dict[str, tuple[CategoricalChoiceType, ...]]:
    """What is tried, as fields of `GateOptions`: the config's lists."""
    sweep = config.sweep
    return {
        "lr": sweep.lr,
        "sgs_weight": sweep.lambda_sgs,
        "sgs": sweep.sgs,
        "hidden": sweep.hidden,
        "look": sweep.look,
    }


def optuna_space(config: Config) -> dict[str, BaseDistribution]:
    """What a study draws from: the range of the learning rates, and the other lists."""
    lr = config.sweep.lr
    lists = {name: CategoricalDistribution(values) for name, values in choices(config).items()}
    return {**lists, "lr": FloatDistribution(min(lr), max(lr), log=True)}


def asha(steps: int, names: list[str]) -> TargetScheduler:
    """Asynchronous successive halving for each target: at a ninth of `steps`, and at a third, the
    best third of those that came so far goes on.

    The first to come to a rung has nobody to be behind, so one trial of each target always ends.
    """

    def halving() -> ASHAScheduler:
        return ASHAScheduler(
            time_attr="step",
            grace_period=max(1, steps // 9),
            max_t=max(1, steps // 3),
            reduction_factor=3,
            stop_last_trials=False,  # nor at max_t: it is the last rung, and not the end
        )

    return TargetScheduler({name: halving() for name in names})
