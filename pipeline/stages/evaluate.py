"""Evaluation on Ray Train: every test image counted exactly once, however many workers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import dsnet
from pipeline.data.manifest import Beton
from pipeline.stages.stage import Stage, Upstream
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import BY_CLASS, evaluate, new_tallies
from pipeline.training.worker import Worker

SPEC = Spec(
    "evaluate",
    revision=2,
    fields=(*PICTURES, "evaluate"),
    unread=("evaluate.batch_size",),
)


@dataclass(frozen=True)
class Inputs:
    """What evaluation reads."""

    test: Beton
    """The test images' beton."""
    model: Path
    """Model directory of a gated network."""

    @classmethod
    def of(cls, upstream: Upstream) -> "Inputs":
        """The test images, and the network that is upstream."""
        return cls(upstream.dataset.test.place, upstream.model)


def loop(worker: Worker, inputs: Inputs) -> None:
    """Sum what every width and the dynamic network reach, by the measures of the model's task."""
    model = dsnet.load(inputs.model, worker.device)
    loader = worker.loader(inputs.test, worker.config.evaluate.batch_size, train=False)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for done, batch in enumerate(worker.batches(loader.epoch(0), model), start=1):
            yield batch
            worker.progress(done, len(loader))

    tallies = new_tallies(model)
    found = evaluate(model, batches(), tallies=tallies)
    counts = found.to_dict()

    def write(folder: Path) -> None:
        (folder / "evaluation.json").write_text(json.dumps(counts))
        if tallies:
            rows = zip(found.rows(model), tallies, strict=True)
            figures = {row.name: tally.figures(model.metadata.classes) for row, tally in rows}
            (folder / BY_CLASS).write_text(json.dumps(figures, separators=(",", ":")))

    # Ray Train hands on what comes with a checkpoint.
    worker.report({"evaluation": counts}, write, final=True)


STAGE = Stage(SPEC, Inputs, loop)
