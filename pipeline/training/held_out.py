"""Stage I on the images kept from training: measured and told while it goes on."""

from collections.abc import Mapping
from typing import Any

from dsnet import DSNet
from pipeline.data.manifest import Beton
from pipeline.training.chance import WHAT_TO_CHANGE
from pipeline.training.evaluation import Evaluation, EvaluationRow, by_width, evaluate
from pipeline.training.worker import Worker

ENOUGH_STEPS = 100
"""Steps after the warm-up by which a network that learns is better than chance."""
FEWEST_STEPS = 30
"""Steps before which nothing is said of one that is not, however short the training."""


class HeldOut:
    """The network that stage I hands on, on the images kept aside."""

    def __init__(self, worker: Worker, beton: Beton, model: DSNet) -> None:
        self._worker, self._model = worker, model
        self._loader = worker.holdout_loader(beton, worker.config.supernet.batch_size)
        self._chance = worker.holdout_chance(beton) if model.task.labelled else None
        self._start: EvaluationRow | None = None
        self._warned = False

    def measure(self) -> tuple[list[EvaluationRow], dict[str, Any]]:
        """Every width now, and what to report of it. A collective: every rank has to ask."""
        batches = self._worker.batches(self._loader.epoch(0), self._model)
        counts = evaluate(self._model, batches, routed=False)
        rows = counts.rows(self._model)
        return rows, {"holdout": by_width(rows), "evaluation": counts.to_dict()}

    def start(self) -> None:
        """Say what the weights reach that fine-tuning starts from, before the first step."""
        rows, _ = self.measure()
        self._start = rows[-1]
        self._say("before the first step", rows)

    def look(self, done: int, total: int) -> None:
        """Measure and tell within an epoch, where no epoch ends early enough."""
        if done >= FEWEST_STEPS:
            rows, _ = self.measure()
            self.tell("within the first third", rows, done, total, early=True)

    def tell(
        self, when: str, rows: list[EvaluationRow], done: int, total: int, *, early: bool = False
    ) -> None:
        """Say in one line what slimmest and widest reach; warn once of a widest at chance.

        early: whether nothing else is told before a third of the steps is done.
        """
        self._say(f"{when}, {done:,} of {total:,} steps", rows)
        chance, widest = self._chance, rows[-1].value
        if self._warned or chance is None or not chance.at(widest):
            return
        if done >= self._enough(total) or (early and done >= FEWEST_STEPS):
            self._warned = True
            text = self._model.task.headline.text
            self._worker.say(
                f"after {done:,} of {total:,} steps the widest is at chance on held-out images "
                f"({text(widest)}, and chance is {text(chance.share)}): {WHAT_TO_CHANGE}",
                warning=True,
            )

    def end(self, counts: Mapping[str, Any]) -> None:
        """Warn of fine-tuning that ended below where it started; counts: of what is handed on."""
        start, headline = self._start, self._model.task.headline
        if start is None:
            return
        end = Evaluation.from_dict(counts).rows(self._model)[-1]
        if headline.error(end.value) - headline.error(start.value) > start.stderr:
            self._worker.say(
                f"fine-tuning ended below where it started, {headline.title} of the widest on "
                f"held-out images {headline.text(start.value)} before and "
                f"{headline.text(end.value)} after: lower supernet.lr or supernet.trunk_lr",
                warning=True,
            )

    def _enough(self, total: int) -> int:
        section = self._worker.config.supernet
        warmup = section.warmup_epochs if section.schedule == "cosine" else 0
        return ENOUGH_STEPS + total // section.epochs * warmup

    def _say(self, when: str, rows: list[EvaluationRow]) -> None:
        headline = self._model.task.headline
        figures = f"{headline.text(rows[0].value)} slimmest, {headline.text(rows[-1].value)} widest"
        what = f"held-out {headline.title}"
        self._worker.say(f"{when}: {what} {figures}", newest=(what, figures))
