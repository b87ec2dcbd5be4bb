"""A network that was made elsewhere: what it reaches on the held-out images."""

import dsnet
from pipeline.stages.stage import OnModel, Stage
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.worker import Worker

SPEC = Spec(
    "given",
    revision=1,
    fields=(*PICTURES, "model"),
)


def loop(worker: Worker, inputs: OnModel) -> None:
    """Count every width on the held-out images, and the dynamic network where gates are trained."""
    model = dsnet.load(inputs.model, worker.device)
    holdout = worker.holdout_loader(inputs.train, worker.config.evaluate.batch_size)
    batches = worker.batches(holdout.epoch(0), model)
    counts = evaluate(model, batches, routed=model.gates_trained)
    worker.report(
        {"holdout": by_width(counts.rows(model)), "evaluation": counts.to_dict()},
        lambda folder: dsnet.save(model, folder / "model"),
        final=True,
    )


STAGE = Stage(SPEC, OnModel, loop)
