"""A model measured on any data of its classes, in this process: every width, and routed."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsnet import DSNet, normalize
from dsnet.errors import InputError
from dsnet.tasks import Tally
from dsnet.text import shown
from pipeline.cluster.progress import Progress
from pipeline.config import Config
from pipeline.data.loader import Loader
from pipeline.data.manifest import Manifest
from pipeline.training.evaluation import EvaluationRow, evaluate

_SHOWN = 5


@dataclass(frozen=True)
class Measured:
    """What a model reaches on a set of images."""

    data: Manifest
    classes: tuple[str, ...]
    """Names of the model's labels, where it has any."""
    rows: list[EvaluationRow]
    """Every sub-network and, where its gates are trained, the dynamic network."""
    tallies: list[Tally]
    """What the task counts beside, of each row; none where its measures tell all."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counted = [tally.figures(self.classes) for tally in self.tallies] or [{}] * len(self.rows)
        return {
            "source": self.data.source,
            "split": self.data.split,
            "digest": self.data.digest,
            "images": self.data.samples,
            "rows": [
                {**row.to_dict(), **figures}
                for row, figures in zip(self.rows, counted, strict=True)
            ],
        }


def measure(model: DSNet, data: Manifest, config: Config) -> Measured:
    """Measure `model` on the images of a beton, as it prepares images; progress on stderr.

    config: its recipe, seed, `evaluate.batch_size` and `cluster.threads` count. Raises InputError
    for images of a class that the model does not have.
    """
    labels = torch.tensor(_labels(model, data)) if model.task.labelled else None
    n = len(model.space)
    networks = n + model.gates_trained
    made = [model.task.tally(model.architecture.num_classes) for _ in range(networks)]
    tallies = [tally for tally in made if tally is not None]
    loader = Loader(
        data.beton,
        batch_size=config.evaluate.batch_size,
        recipe=config.data.recipe,
        train=False,
        resolution=model.metadata.resolution,
        seed=config.seed,
        threads=config.cluster.threads,
    )
    torch.set_num_threads(config.cluster.threads)
    with closing(loader), Progress("evaluate", total=len(loader), unit="batches") as progress:

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            metadata = model.metadata
            for done, batch in enumerate(loader.epoch(0), start=1):
                images = normalize(batch.images, metadata.mean, metadata.std)
                yield model.task.pair(
                    images, batch.labels if labels is None else labels[batch.labels]
                )
                progress.update(done)

        counts = evaluate(model, batches(), routed=model.gates_trained, tallies=tallies)
    return Measured(data, model.metadata.classes, counts.rows(model), tallies)


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
