"""A sweep by table: one routing table, and a gate on it for every target."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from dsnet.routing import RoutingTable
from dsnet.routing.looks import routed_by
from dsnet.routing.target import Target
from dsnet.routing.tuned import fitted
from dsnet.runtime.tiles import to_pixels
from dsnet.training.table_gate import TrainedGate
from pipeline.cluster import ray_cluster
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.report import (
    Results,
    Row,
    cascade_rows,
    curve_rows,
    gate_row,
    hardness,
    image_rows,
    oracle_rows,
    static_rows,
    write_page,
)
from pipeline.runner.job import GATE
from pipeline.runner.promotion import settle
from pipeline.runner.register import register_model
from pipeline.runner.tables import Tables, make_tables
from pipeline.runner.train_gate import every_width
from pipeline.stages.table_gate import tuned
from pipeline.store import registry, tracking
from pipeline.store.aliases import target_alias, target_uri
from pipeline.store.card import Reached
from pipeline.store.registry import Version
from pipeline.store.tracking import Run
from pipeline.sweep.request import SweepRequest
from pipeline.sweep.tuner import EVERY, Trial, run_trials
from pipeline.training.evaluation import stderr_name


@dataclass(frozen=True)
class ChosenGate:
    """The gate to use for one target: trained for it, or the one for every target."""

    target: Target
    trial: Trial
    gate: TrainedGate
    index: int
    """Which of the gate's targets it is."""

    @property
    def loss(self) -> float:
        """Mean loss on held-out images."""
        return self.gate.outcomes[self.index].loss


def run(request: SweepRequest, started: float) -> tuple[Results, list[Version]]:
    """What the trials have found, and the version that was made of the best of them.

    started: of the sweep, by `time.monotonic`.
    """
    job = request.job
    tables = make_tables(job, request.supernet, request.model)
    job.workers.leave()  # trials are other processes, and need the cluster's CPUs
    ray_cluster.connect(job.config.cluster)  # not done yet if the tables were found
    trials = run_trials(job.config, request.targets, tables, request.key)
    log_trials(job.run, trials)
    found = Found(request, tables, best_gates(request.targets, trials))
    results = found.results(trials, started)
    return results, [found.register(results)]


def log_trials(run: Run, trials: Sequence[Trial]) -> None:
    """Every trial as an MLflow run nested in the sweep's, with what it reached before it ended."""
    for trial in trials:
        with tracking.stage_run(run, f"trial {trial.target}", told=False) as nested:
            nested.params({"target": trial.target, **trial.point})
            nested.log(dict(trial.reached))
            if trial.gate is not None:
                nested.log({"seconds": trial.gate.seconds})
            elif trial.stopped:
                nested.tag({"stopped": "early, behind others of its target"})
            else:
                nested.tag({"error": trial.error or ""})


def best_gates(targets: Sequence[Target], trials: Sequence[Trial]) -> "list[ChosenGate]":
    """A gate for each target, or one gate at a price for each: what has less loss in all.

    Of several trials for a target the best counts. Separate gates share one kind of look, so that
    an exported file takes any of them. Losses are of held-out images. Raises RuntimeError if no
    kind can serve every target, for its trials failed.
    """
    gates = [(trial, trial.gate) for trial in trials if trial.gate is not None]
    ways = [
        [ChosenGate(target, trial, gate, number) for number, target in enumerate(targets)]
        for trial, gate in gates
        if trial.target == EVERY
    ]
    for look in sorted({trial.point["look"] for trial, _ in gates}):
        own = [
            [
                ChosenGate(target, trial, gate, 0)
                for trial, gate in gates
                if trial.target == str(target) and trial.point["look"] == look
            ]
            for target in targets
        ]
        if all(own):
            ways.append([min(candidates, key=lambda best: best.loss) for candidates in own])
    if not ways:
        errors = sorted({trial.error for trial in trials if trial.error})
        raise RuntimeError(f"trials failed, and no target has all gates: {'; '.join(errors)}")
    return min(ways, key=lambda way: sum(best.loss for best in way))


@dataclass(frozen=True)
class Found:
    """The gates that a sweep has found, and what they do with the test images."""

    request: SweepRequest
    tables: Tables
    best: list[ChosenGate]

    @cached_property
    def holdout(self) -> RoutingTable:
        """The held-out images' table."""
        return self.tables.read("holdout")

    @cached_property
    def test(self) -> RoutingTable:
        """The test images' table: judged by, never chosen by."""
        return self.tables.read("test")

    def results(self, trials: Sequence[Trial], started: float) -> Results:
        """Everything that the report shows."""
        test = self.test
        rows = static_rows(test, self.request.routes)
        rows += oracle_rows(test)
        rows += cascade_rows(self.holdout, test)
        for trial in trials:
            rows += self._rows_of(trial)
        if every := [t.gate for t in trials if t.target == EVERY and t.gate is not None]:
            best = min(every, key=lambda gate: gate.loss)
            rows += curve_rows(*self._judged(best.heads))
        judged = [self._judged(best.gate.heads) for best in self.best]
        prices = [best.gate.prices[best.index] for best in self.best]
        _, middle, _, middle_logits = judged[len(judged) // 2]
        images = image_rows(
            test,
            self.request.job.dataset.test.classes,
            [str(best.target) for best in self.best],
            [
                table.paths.ends(table.paths.choose(logits, price))
                for (_, table, _, logits), price in zip(judged, prices, strict=True)
            ],
            hardness(middle, middle_logits),
            self._pictures,
            self._crops if self.request.model.task.pictures else None,
        )
        about = self.request.about(time.monotonic() - started)
        return Results(about, tuple(rows), images)

    def register(self, results: Results) -> Version:
        """One version with the gates of all targets, under every target's alias, with the report.

        Unless it exists already. Without a budget it runs at the middle target.
        """
        job, key = self.request.job, self.request.key
        name = job.config.name
        targets = [best.target for best in self.best]
        version = registry.find(name, key)
        if version is None:
            gates = [tuned(best.gate, self.holdout, best.index) for best in self.best]
            middle = len(gates) // 2
            row = next(r for r in results.chosen if r.target == str(self.best[middle].target))
            metrics = {**row.measures, "average_madds": row.madds or 0.0}
            if not results.headline.share:
                metrics[stderr_name(results.headline)] = row.value_stderr or 0.0
            aliases = ",".join(map(target_alias, targets))
            with tracking.stage_run(job.run, GATE, {"targets": aliases}) as run:
                version = register_model(
                    job,
                    GATE,
                    name,
                    fitted(self.request.model, gates[middle]),
                    metrics,
                    key,
                    run,
                    self.request.supernet,
                    gates=gates,
                    evaluated_on="test",
                    attach=lambda folder: write_page(results, folder / "report.html"),
                    reached=Reached(
                        len(self.test),
                        every_width(self.request.model, self.test),
                        {
                            str(row.target): (row.madds or 0.0, row.value or 0.0)
                            for row in results.chosen
                        },
                    ),
                )
        unlearned = [*self.request.unlearned(results).values()]
        return settle(version, targets, self.request.images, unlearned, job.config.promotion)

    def _rows_of(self, trial: Trial) -> list[Row]:
        label = "every budget" if trial.target == EVERY else f"target {trial.target}"
        if trial.gate is None:
            row = Row("gate", label, target=trial.target, config=trial.point, error=trial.error)
            return [row]
        judged = self._judged(trial.gate.heads)
        rows = []
        for index, madds in enumerate(trial.gate.targets):
            of_routes = self.request.madds
            best = next(b for b in self.best if abs(b.target.madds(of_routes) - madds) < 0.5)
            chosen = best.trial is trial
            rows.append(
                gate_row(
                    label,
                    *judged,
                    trial.gate.prices[index],
                    target=str(best.target),
                    target_madds=madds,
                    seconds=trial.gate.seconds,
                    chosen=chosen,
                    uri=target_uri(self.request.job.config.name, best.target) if chosen else None,
                    config=trial.point,
                )
            )
        return rows

    def _judged(
        self, heads: Sequence[Module]
    ) -> tuple[RoutingTable, RoutingTable, list[Tensor], list[Tensor]]:
        """Held-out and test table as these heads route them, and their logits on both."""
        holdout, test = routed_by(self.holdout, heads), routed_by(self.test, heads)
        return holdout, test, holdout.logits(heads), test.logits(heads)

    def _pictures(self, indices: np.ndarray) -> np.ndarray:
        return self._batch(indices).images.numpy()

    @torch.inference_mode()
    def _crops(self, indices: np.ndarray, paths: Tensor) -> list[dict[str, np.ndarray]]:
        """What goes in, what the slimmest, the widest and the chosen path make of it, the target.

        paths: that each picture takes, as a position among the routes, int64 (n,).
        """
        model, batch = self.request.model, self._batch(indices)
        inputs, targets = batch.pair(model, torch.device("cpu"))
        routes = torch.tensor(model.space.routes)
        made = torch.stack([model(inputs, width=int(route)) for route in routes])
        shown = {
            "given": inputs,
            "slimmest": made[0],
            "routed": made[paths, torch.arange(len(paths))],
            "widest": made[-1],
            "wanted": targets,
        }
        return [
            {title: to_pixels(pictures[row].numpy()) for title, pictures in shown.items()}
            for row in range(len(indices))
        ]

    def _batch(self, indices: np.ndarray) -> Batch:
        config = self.request.job.config
        options = LoaderOptions.of(config, len(indices), indices=indices)
        loader = Loader(self.request.job.dataset.test.beton, options)
        with loader:
            return next(iter(loader.epoch(0)))
