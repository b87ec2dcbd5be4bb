"""A stage on its driver: found by its fingerprint if done before, else trained on workers."""

import logging

import dsnet
from dsnet import DSNet
from pipeline.report.curves import curves
from pipeline.runner.job import Job, headline
from pipeline.runner.register import register_model
from pipeline.runner.summary import log_summary
from pipeline.stages.stage import Inputs, Stage, Upstream
from pipeline.store import tracking
from pipeline.store.card import Reached
from pipeline.store.fingerprint import place_of
from pipeline.store.registry import Version
from pipeline.training.evaluation import Evaluation
from pipeline.training.losses import Against
from pipeline.training.state import MODEL

logger = logging.getLogger(__name__)


def find_or_train(job: Job, stage: Stage[Inputs], parent: Version | None = None) -> Version:
    """The version that `stage` makes of `parent`, trained now or found where it was made before.

    It is found by its fingerprint, a digest of all that its result depends on: the stage's name and
    revision, the fields that it reads, its inputs' fingerprints, the data. Its metrics are counted
    by the loop on the images that were kept from training.
    """
    config, spec = job.config, stage.spec
    name = config.name if stage.gated else job.supernet_name
    start = job.start if parent is None else None
    key = job.fingerprint(spec, [parent] if parent else [], *([start.identity] if start else []))
    # A given model may stand in for the first stage, unless that starts from another's weights.
    first = parent is None and start is None
    place = place_of(spec, config, job.dataset.digest) if first else None
    with job.found_or_locked(spec.name, name, key, place) as found:
        if found is not None:
            return found
        directory = job.local(parent) if parent else None
        upstream = Upstream(config, job.dataset, directory, start.directory if start else None)
        inputs = stage.inputs.of(upstream)
        with tracking.stage_run(job.run, spec.name, {"fingerprint": key}) as run:
            result = job.workers.run(
                spec.name, stage.loop, inputs, config, fingerprint=key, run=run
            )
            model = dsnet.load(result.directory / MODEL)
            log_summary(spec.name, result.metrics, result.seconds, model, Against.of(config))
            if (drawing := curves(result.history, model.task.headline)) is not None:
                run.text(drawing, f"{model.task.headline.name}.svg")
            return register_model(
                job,
                spec.name,
                name,
                model,
                headline(result.evaluation, model),
                key,
                run,
                start.version if start else parent,
                reached=reached_by(result.evaluation, model),
            )


def reached_by(counts: Evaluation, model: DSNet) -> Reached:
    """What the card of a version shows: the headline of every width, and over how many images."""
    rows = counts.rows(model)[: len(model.space)]
    return Reached(counts.images, {index: row.value for index, row in enumerate(rows)})
