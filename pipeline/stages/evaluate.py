"""Evaluation on Ray Train: every test image counted exactly once, however many workers."""

import json
from collections.abc import Iterator

from torch import Tensor

import dsnet
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import evaluate
from pipeline.training.worker import Worker

SPEC = Spec(
    "evaluate",
    revision=2,
    fields=(*PICTURES, "evaluate"),
    unread=("evaluate.batch_size",),
)


def loop(worker: Worker) -> None:
    """Sum what every width and the dynamic network reach, by the measures of the model's task.

    settings: "test", the beton; "model", a gated network's model directory.
    """
    model = dsnet.load(worker.settings["model"], worker.device)
    loader = worker.loader(worker.settings["test"], worker.config.evaluate.batch_size, train=False)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for done, batch in enumerate(worker.batches(loader.epoch(0), model.metadata), start=1):
            yield batch
            worker.progress(done, len(loader))

    counts = evaluate(model, batches()).to_dict()
    # Ray Train hands on what comes with a checkpoint.
    worker.report(
        {"evaluation": counts},
        lambda folder: (folder / "evaluation.json").write_text(json.dumps(counts)),
        final=True,
    )
