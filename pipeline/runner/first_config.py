"""A suggested configuration on this machine: what it takes, what fits, which variant is best."""

import math
from dataclasses import dataclass
from functools import cached_property

from dsnet import DSNet, Metadata
from dsnet.errors import InputError
from pipeline.config import Config
from pipeline.data.suggest.candidates import candidates
from pipeline.data.suggest.choices import Choice, checkpoints
from pipeline.data.suggest.kinds import kind_of
from pipeline.data.suggest.suggestion import Suggestion
from pipeline.runner.estimate.calibration import calibrated
from pipeline.runner.estimate.sizes import Sizes, sizes_of
from pipeline.runner.estimate.speed import Speed, epochs_within
from pipeline.runner.estimate.work import of_bootstrap
from pipeline.runner.trials import tried
from pipeline.stages.network import new_network

MINUTES = 10.0
"""That a first run should take at most."""
TRIAL_SECONDS = 20.0
"""Of training, for each candidate."""


@dataclass
class FirstConfig:
    """What is known of a suggestion once this machine was measured, once."""

    suggestion: Suggestion

    @property
    def config(self) -> Config:
        """What `dsnet run` makes of the suggestion."""
        return self.suggestion.config()

    def _model(self) -> DSNet:
        config, classes = self.config, len(self.suggestion.found.counts)
        return new_network(config, classes, Metadata(resolution=config.data.resolution))

    @cached_property
    def speed(self) -> Speed:
        """Of this machine's workers."""
        return calibrated(self.config, self._model(), briefly=True)

    def within(self, minutes: float | None) -> Suggestion:
        """The suggestion with as many epochs as fit, which says how long the chain takes.

        minutes: None for MINUTES; a network of the paper's then trains for as long as it takes.
        """
        if minutes is None:
            minutes = math.inf if kind_of(self.suggestion.found).from_paper else MINUTES
        found, config = self.suggestion.found, self.config
        sizes: Sizes = sizes_of(
            config, None, found.pictures, self.suggestion.test, len(found.counts)
        )
        wanted = config.supernet.epochs
        epochs, seconds = epochs_within(60 * minutes, config, self._model(), sizes, self.speed)
        suggestion = self.suggestion.noted(
            f"dsnet run takes about {_told(seconds)} on this machine, with "
            f"{config.cluster.max_workers} workers; measured for some seconds on random pixels."
        )
        if epochs < wanted:
            why = (
                f"what fits into {minutes:g} minutes here; {wanted} would suit so many pictures "
                "(dsnet init --minutes)"
            )
            return suggestion.changed(Choice("supernet.epochs", epochs, why), checkpoints(epochs))
        return suggestion

    def best(self) -> Suggestion:
        """The suggestion with the augmentation that reached most in a short trial of each."""
        config = self.config
        recipes = candidates(self.suggestion.value("data.recipe"))
        images = round(TRIAL_SECONDS * self.speed.train / of_bootstrap(config, self._model()))
        if images < config.supernet.batch_size * config.cluster.max_workers:
            raise InputError(
                f"--try: expected a machine that trains on a batch within {TRIAL_SECONDS:g} s, "
                f"found one that trains on {images} images in that time; leave --try out"
            )
        reached = tried(
            {
                name: self.suggestion.changed(Choice("data.recipe", recipe, name)).config()
                for name, recipe in recipes.items()
            },
            images,
        )
        best = max(reached, key=lambda name: reached[name])
        told = ", ".join(f"{name} {value:.1%}" for name, value in reached.items())
        why = f"the best of a short trial on {images:,} images each ({told} of held-out pictures)"
        return self.suggestion.changed(Choice("data.recipe", recipes[best], why))


def _told(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 90:
        return f"{max(1, round(minutes))} minutes"
    hours = minutes / 60
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
