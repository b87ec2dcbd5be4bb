"""A stage of a stranger's: what the supernet becomes where weights are held in bfloat16."""

from dataclasses import dataclass
from pathlib import Path

import torch

import dsnet
from pipeline.stages.stage import Stage, Upstream
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import evaluate
from pipeline.training.worker import Worker

SPEC = Spec("rounding", revision=1, fields=(*PICTURES, "evaluate"), unread=("evaluate.batch_size",))


@dataclass(frozen=True)
class Inputs:
    """What rounding reads."""

    train: Path
    model: Path

    @classmethod
    def of(cls, upstream: Upstream) -> "Inputs":
        """The training images, and the network that is upstream."""
        return cls(upstream.dataset.train.beton, upstream.model)


@torch.no_grad()
def loop(worker: Worker, inputs: Inputs) -> None:
    """Round every parameter, and count on the images kept aside what that leaves."""
    model = dsnet.load(inputs.model, worker.device)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    holdout = worker.holdout_loader(inputs.train, worker.config.evaluate.batch_size)
    counts = evaluate(model, worker.batches(holdout.epoch(0), model), routed=False)
    worker.report(
        {"evaluation": counts.to_dict()},
        lambda folder: dsnet.save(model, folder / "model"),
        final=True,
    )


STAGE = Stage(SPEC, Inputs, loop)
