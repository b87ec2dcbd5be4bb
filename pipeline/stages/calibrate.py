"""Calibration on Ray Train: the BatchNorm statistics of every width, recomputed exactly."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

import dsnet
from dsnet.training import check_finite, recalibrate
from pipeline.data.random_bits import permutation
from pipeline.stages.stage import OnModel, Stage
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.worker import Worker

SPEC = Spec(
    "calibrate",
    revision=1,
    fields=(*PICTURES, "calibrate"),
)


def loop(worker: Worker, inputs: OnModel) -> None:
    """Recalibrate on training images as training shows them, each once over all workers.

    Filters and classifier have learned behind those statistics: with those of the images that
    evaluation shows, every width of a CIFAR-10 network lost a point and a half of top-1.
    """
    section = worker.config.calibrate
    model = dsnet.load(inputs.model, worker.device)
    ours, _ = worker.train_and_holdout(inputs.train)
    mine = share(ours, section.images, section.batch_size, worker)

    def images() -> Iterator[Tensor]:
        if not len(mine):
            return
        loader = worker.loader(
            inputs.train,
            section.batch_size,
            train=True,
            indices=mine,
            shared=False,
            exact=True,
        )
        batches = worker.batches(loader.epoch(0), model)
        for done, (batch, _) in enumerate(batches, start=1):
            yield batch
            worker.progress(done, len(loader))

    seen = recalibrate(model, images())
    check_finite(dict(model.named_buffers()), "after recalibration")
    holdout = worker.holdout_loader(inputs.train, section.batch_size)
    counts = evaluate(model, worker.batches(holdout.epoch(0), model), routed=False)
    worker.report(
        {
            "images": seen,
            "holdout": by_width(counts.rows(model)),
            "evaluation": counts.to_dict(),
        },
        lambda folder: dsnet.save(model, folder / "model"),
        final=True,
    )


STAGE = Stage(SPEC, OnModel, loop)


def share(indices: np.ndarray, images: int | None, batch_size: int, worker: Worker) -> np.ndarray:
    """This rank's images. Batches are the same however many workers share them.

    Shuffled first: data that lies in order of class would make batches of one class, whose
    statistics are like no other batch's.
    """
    order = indices[permutation(len(indices), worker.config.seed, 0)][:images]
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    return np.concatenate([*batches[worker.rank :: worker.world_size], order[:0]])
