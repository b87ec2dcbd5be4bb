"""A model measured on any data of its classes, in this process: every width, and routed."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dsnet import DSNet
from dsnet.errors import InputError
from dsnet.errors.text import shown
from pipeline.cluster.progress import Progress
from pipeline.config import Config
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest
from pipeline.data.threads import torch_threads
from pipeline.training.evaluation import EvaluationRow, evaluate, new_tallies

_SHOWN = 5


@dataclass(frozen=True)
class Measured:
    """What a model reaches on a set of images."""

    data: Manifest
    rows: list[EvaluationRow]
    """Every sub-network and, where its gates are trained, the dynamic network."""
    figures: list[dict[str, Any]]
    """What the task's tallies tell, of each row; empty where its measures tell all."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "source": self.data.source,
            "split": self.data.split,
            "digest": self.data.digest,
            "images": self.data.samples,
            "rows": [
                {**row.to_dict(), **figures}
                for row, figures in zip(self.rows, self.figures, strict=True)
            ],
        }


def measure(model: DSNet, data: Manifest, config: Config) -> Measured:
    """Measure `model` on the images of a beton, as it prepares images; progress on stderr.

    config: its recipe, seed, `evaluate.batch_size` and `cluster.threads` count. Raises InputError
    for images of a class that the model does not have.
    """
    labels = torch.tensor(_labels(model, data)) if model.task.labelled else None
    tallies = new_tallies(model, routed=model.gates_trained)
    options = LoaderOptions.of(
        config, config.evaluate.batch_size, resolution=model.metadata.resolution
    )
    loader = Loader(data.beton, options)
    with (
        closing(loader),
        torch_threads(config.cluster.threads),
        Progress("evaluate", total=len(loader), unit="batches") as progress,
    ):

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for done, batch in enumerate(loader.epoch(0), start=1):
                known = batch.labels if labels is None else labels[batch.labels]
                yield replace(batch, labels=known).pair(model, torch.device("cpu"))
                progress.update(done)

        counts = evaluate(model, batches(), routed=model.gates_trained, tallies=tallies)
    rows = counts.rows(model)
    figures = [tally.figures(model.metadata.classes) for tally in tallies] or [{}] * len(rows)
    return Measured(data, rows, figures)


def _labels(model: DSNet, data: Manifest) -> list[int]:
    """The model's label of each class of the data, by name where the model has names."""
    names, outputs = model.metadata.classes, model.architecture.num_classes
    if not names:
        if len(data.classes) > outputs:
            raise InputError(
                f"data.source {data.source}: expected up to {outputs} classes, as the model has, "
                f"found {len(data.classes)}"
            )
        return list(range(len(data.classes)))
    if strange := [name for name in data.classes if name not in names]:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise InputError(
            f"data.source {data.source}: expected classes of the model "
            f"({shown(list(names))}), found {', '.join(map(shown, strange[:_SHOWN]))}{more}"
        )
    return [names.index(name) for name in data.classes]
