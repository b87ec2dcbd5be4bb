"""A stage on its driver: found by its fingerprint if it was done before, else run on workers."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import dsnet
from pipeline.cluster import events
from pipeline.report.curves import curves
from pipeline.runner.job import Job, headline
from pipeline.runner.register import register_model
from pipeline.runner.summary import summary
from pipeline.stages.stage import Inputs, Stage, T, Upstream
from pipeline.store import tracking
from pipeline.store.card import Reached
from pipeline.store.fingerprint import place_of
from pipeline.store.registry import Version
from pipeline.store.tracking import Run
from pipeline.training.evaluation import Evaluation
from pipeline.training.losses import Against
from pipeline.training.state import MODEL

if TYPE_CHECKING:  # it brings Ray Train
    from pipeline.training.worker_group import StageResult

logger = logging.getLogger(__name__)


def find_or_train(job: Job, stage: Stage[Inputs], parent: Version | None = None) -> Version:
    """The version that `stage` makes of `parent`, trained now or found where it was made before.

    Its metrics are counted by the loop on the images that were kept from training.
    """
    name = job.config.name if stage.gated else job.supernet_name
    start = job.start if parent is None else None
    inputs = [start.identity] if start else []
    key = job.fingerprint(stage.spec, [parent] if parent else [], *inputs)
    place = None
    if parent is None and start is None:
        place = place_of(stage.spec, job.config, job.dataset.digest)

    def trained() -> Version:
        directory = job.local(parent) if parent else None
        upstream = Upstream(job.config, job.dataset, directory, start.directory if start else None)
        with tracking.stage_run(job.run, stage.spec.name, {"fingerprint": key}) as run:
            outcome = run_stage(job, stage, stage.inputs.of(upstream), key, run)
            counts = Evaluation.from_dict(outcome.metrics["evaluation"])
            model = dsnet.load(outcome.directory / MODEL)
            logger.info(
                "%s",
                summary(
                    stage.spec.name,
                    outcome.metrics,
                    outcome.seconds,
                    model.task.headline,
                    Against.of(job.config),
                ),
            )
            if (drawing := curves(outcome.history, model.task.headline)) is not None:
                run.text(drawing, f"{model.task.headline.name}.svg")
            metrics = headline(counts, model)
            origin = start.version if start else parent
            widths = {i: row.value for i, row in enumerate(counts.rows(model)[: len(model.space)])}
            return register_model(
                job,
                stage.spec.name,
                name,
                model,
                metrics,
                key,
                run,
                origin,
                reached=Reached(counts.images, widths),
            )

    return find_or_make(job, stage.spec.name, name, key, trained, place)


def find_or_make(
    job: Job,
    stage: str,
    name: str,
    key: str,
    make: Callable[[], Version],
    place: str | None = None,
) -> Version:
    """The version of `name` with the fingerprint `key`, or given in its `place`; found or made.

    Of several runs that want it at once, one makes it and the others find it.
    """
    if found := job.found(name, key, place):
        events.tell("there", stage=stage, version=found.uri)
        return found
    with job.alone(f"{name}-{stage}", key):
        if found := job.found(name, key, place):
            logger.info("%s: %s is there by now", stage, found.uri)
            return found
        return make()


def run_stage(job: Job, stage: Stage[T], inputs: T, key: str, run: Run) -> "StageResult":
    """What the stage's loop reported from its workers. `key`: the stage's fingerprint."""
    name, workers = stage.spec.name, job.workers
    return workers.run(name, stage.loop, inputs, job.config, fingerprint=key, run=run)
