"""A few pictures of a beton as trainings see them: through the loader that they use."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import OwnRecipe
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest


@dataclass(frozen=True)
class Views:
    """One picture, as it is evaluated and as some trainings would see it."""

    label: int
    sample: int
    """Its number in the beton."""
    evaluated: np.ndarray
    """uint8 (side, side, 3)."""
    trained: np.ndarray
    """uint8 (views, side, side, 3), each with random numbers of its own."""


def views(
    manifest: Manifest,
    recipe: str | OwnRecipe,
    resolution: int,
    *,
    samples: int,
    views: int,
    seed: int,
) -> list[Views]:
    """Of up to `samples` pictures, each of another class as long as there are others.

    Raises InputError if the beton is not what its manifest describes.
    """
    labels = manifest.labels()
    chosen = np.sort(_spread(labels, samples, np.random.default_rng(seed)))

    def read(train: bool, count: int) -> np.ndarray:
        options = LoaderOptions(
            batch_size=len(chosen),
            recipe=recipe,
            train=train,
            resolution=resolution,
            seed=seed,
            indices=chosen,
            exact=True,
        )
        with Loader(manifest.beton, options) as loader:
            return np.stack(
                [
                    batch.on(torch.device("cpu")).numpy()
                    for view in range(count)
                    for batch in loader.epoch(0, view=view)
                ]
            )

    (evaluated,), trained = read(False, 1), read(True, views)
    return [
        Views(int(labels[sample]), int(sample), evaluated[row], trained[:, row])
        for row, sample in enumerate(chosen)
    ]


def _spread(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Numbers of samples: the first of every class before the second of any, in random order."""
    order = random.permutation(len(labels))
    seen: dict[int, int] = {}
    turns = np.empty(len(labels), np.int64)
    for position, label in enumerate(labels[order].tolist()):
        turns[position] = seen[label] = seen.get(label, -1) + 1
    return order[np.argsort(turns, kind="stable")[:count]]
