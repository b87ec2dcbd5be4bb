"""Evaluation on its driver: a version's counts on the test images, among its tags."""

import json
from pathlib import Path

import dsnet
from pipeline.report.classes import classes
from pipeline.runner.job import Job, headline
from pipeline.runner.summary import log_summary
from pipeline.stages.evaluate import STAGE
from pipeline.stages.stage import Upstream
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from pipeline.store.tracking import Run
from pipeline.store.version import EVALUATE_RUN
from pipeline.training.evaluation import BY_CLASS, Evaluation

EVALUATED = "evaluate_fingerprint"
CALIBRATION_ERROR = "calibration_error"


def evaluate(job: Job, version: Version) -> Version:
    """Measure a registered version, loaded back from the registry, on the test images.

    Returns it with the counts and the headline figures among its tags.
    """
    key = job.fingerprint(STAGE.spec, [version])
    if _is_done(job, version, key):
        return version
    with job.alone(f"{version.name}-evaluate", key):
        version = registry.resolve(version.uri)  # another run may have evaluated it meanwhile
        return version if _is_done(job, version, key) else _evaluated(job, version, key)


def _is_done(job: Job, version: Version, key: str) -> bool:
    return version.tags.get(EVALUATED) == key and job.accepts(key, version)


def _evaluated(job: Job, version: Version, key: str) -> Version:
    directory = job.local(version)
    with tracking.stage_run(job.run, "evaluate", {"model": version.uri}) as run:
        inputs = STAGE.inputs.of(Upstream(job.config, job.dataset, directory))
        result = job.workers.run(
            STAGE.spec.name, STAGE.loop, inputs, job.config, fingerprint=key, run=run
        )
        more = _log_by_class(run, result.directory)
        run_id = run.id or ""
    model = dsnet.load(directory)
    log_summary(STAGE.spec.name, result.metrics, result.seconds, model)
    found = result.evaluation
    if found.images != job.dataset.test.samples:
        raise RuntimeError(f"evaluated {found.images} of {job.dataset.test.samples} images")
    tags = {
        "evaluated_on": "test",
        "evaluation": json.dumps(found.to_dict()),
        EVALUATE_RUN: run_id,
        # Last: what it is found by next time must not be there before the counts are.
        EVALUATED: key,
    }
    return registry.annotate(version, tags, headline(found, model) | more)


def counts(version: Version) -> Evaluation:
    """What `evaluate` counted of a version on the test images."""
    return Evaluation.from_dict(json.loads(version.tags["evaluation"]))


def _log_by_class(run: Run, checkpoint: Path) -> dict[str, float]:
    """Log what the final checkpoint has of it; returns what is a metric of the version.

    Nothing for a task that does not count by class.
    """
    file = checkpoint / BY_CLASS
    if not file.is_file():
        return {}
    run.artifact(file)
    figures = json.loads(file.read_text())
    if not all(CALIBRATION_ERROR in each for each in figures.values()):
        return {}  # a tally of another kind
    run.text(classes(figures), "classes.svg")
    errors = {name: each[CALIBRATION_ERROR] for name, each in figures.items()}
    run.log({CALIBRATION_ERROR: errors})
    return {CALIBRATION_ERROR: errors["dynamic"]}
