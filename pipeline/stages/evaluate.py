"""Evaluation on Ray Train: every test image counted exactly once, however many workers."""

import json
from collections.abc import Iterator

from torch import Tensor

import dsnet
from pipeline import evaluation, registry, tracking
from pipeline.evaluation import Evaluation
from pipeline.registry import Version
from pipeline.stage import Job, headline
from pipeline.trainer import train
from pipeline.worker import Settings, Worker


def loop(settings: Settings) -> None:
    """Count right answers of every width and of the dynamic network.

    settings: "test", the beton; "model", a gated network's model directory.
    """
    worker = Worker(settings)
    model = dsnet.load(settings["model"], worker.device)
    loader = worker.loader(settings["test"], worker.config.evaluate.batch_size, train=False)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for done, batch in enumerate(worker.batches(loader.epoch(0), model.metadata), start=1):
            yield batch
            worker.progress(done, len(loader))

    counts = evaluation.evaluate(model, batches()).to_dict()
    # Ray Train hands on what comes with a checkpoint.
    worker.report(
        {"evaluation": counts},
        lambda folder: (folder / "evaluation.json").write_text(json.dumps(counts)),
    )


def evaluate(job: Job, version: Version) -> Version:
    """Measure a registered version, loaded back from the registry, on the test images.

    Returns it with the counts and the headline figures among its tags.
    """
    key = job.fingerprint("evaluate", [version])
    if version.tags.get("evaluate_fingerprint") == key:
        return version
    directory = job.local(version)
    with tracking.stage_run(job.run, "evaluate", {"model": version.uri}) as run:
        outcome = train(
            "evaluate",
            loop,
            job.config,
            {**job.betons(), "model": str(directory)},
            fingerprint=key,
            run=run,
            unit="batches",
        )
    counts = Evaluation.from_dict(outcome.metrics["evaluation"])
    expected = job.dataset.test.samples
    if counts.images != expected:
        raise RuntimeError(f"evaluated {counts.images} images of {expected}")
    return registry.annotate(
        version,
        {
            "evaluated_on": "test",
            "evaluate_fingerprint": key,
            "evaluation": json.dumps(counts.to_dict()),
        },
        headline(counts, dsnet.load(directory)),
    )
