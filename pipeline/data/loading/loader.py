"""Batches of a beton, epoch after epoch: one rank's share, in an order that resumes anywhere."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from dsnet.errors import InputError
from pipeline.config import Config, OwnRecipe
from pipeline.data.augment.recipes import Recipe, get_recipe
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.order import came_before, epoch_order, share_of
from pipeline.data.loading.read_ahead import BatchSamples, ReadAhead
from pipeline.data.loading.reader import Reader
from pipeline.data.manifest import Beton, Manifest
from pipeline.data.random_bits import random_key, repeated_keys
from pipeline.data.remote.beton import at_hand


@dataclass(frozen=True)
class LoaderOptions:
    """What a loader reads of a beton, and how. Raises InputError if a number is wrong."""

    batch_size: int
    """Pictures per batch on this rank."""
    recipe: str | OwnRecipe | Recipe
    """Name of a recipe, or one."""
    resolution: int
    """Height and width of the network's input, in pixels."""
    train: bool = False
    """Shuffled and transformed at random; else in order, and nothing random."""
    seed: int = 0
    """Of the order and of the transformations."""
    indices: np.ndarray | None = None
    """The samples to read; by default all of them."""
    rank: int | Sequence[int] = 0
    """Whose share is read, of `world_size`. Several where one worker stands in for others: a batch
    of each in turn, so that what all read in a step is the same as without it."""
    world_size: int = 1
    """Ranks that share the samples."""
    threads: int = 1
    """Decoding at once."""
    exact: bool | None = None
    """In order and every picture once, as in evaluation, but still transformed at random if
    `train`; by default `not train`."""
    pin: bool = False
    """Page-locked memory, for copies to a GPU that do not block."""
    mix: bool = False
    """Whether batches are to be mixed, where the recipe has mixup or CutMix."""
    balanced: bool = False
    """An epoch has as many samples of every class, see `epoch_order`; for training."""
    resolution_of: Callable[[int], int] | None = None
    """The resolution of the epoch of a number, where it is not that of all."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "resolution", "threads"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"loader {name}: expected 1 or more, found {value}")

    @classmethod
    def of(cls, config: Config, batch_size: int, **others: Any) -> "LoaderOptions":
        """With the recipe, resolution, seed and threads of a configuration; others: as above."""
        configured = {
            "recipe": config.data.recipe,
            "resolution": config.data.resolution,
            "seed": config.seed,
            "threads": config.cluster.threads,
        }
        return cls(batch_size, **configured | others)


class Loader:
    """Batches of one rank's share of a beton, epoch after epoch.

    Training: shuffled by (seed, epoch), transformed at random, as many batches on every rank, all
    full (a last batch that is not is left out, unless it is the only one). Evaluation: in order,
    nothing random, and over all ranks every picture exactly once.

    What a picture looks like depends on (seed, epoch, view) and its number alone: not on the
    batch size, the threads or the ranks.
    """

    def __init__(self, beton: Beton, options: LoaderOptions) -> None:
        """beton: a file that `ingest` wrote, or one in a store, staged to this node first.

        Raises InputError if the beton is missing, has no manifest or is not what that describes,
        or if the options ask for samples that it does not have.
        """
        chosen_recipe = options.recipe
        recipe = chosen_recipe if isinstance(chosen_recipe, Recipe) else get_recipe(chosen_recipe)
        self._options = options
        self._reader = Reader(
            at_hand(beton),
            recipe,
            train=options.train,
            mix=options.mix,
            threads=options.threads,
            pin=options.pin,
        )
        self.manifest: Manifest = self._reader.manifest
        self.batch_size, self.resolution = options.batch_size, options.resolution
        self._samples = _checked(options.indices, self.manifest.samples)
        if recipe.native:
            pictures = self._reader.pictures[self._samples]
            _check_sides(self.manifest, pictures, self._samples, options.resolution)
        self._exact = not options.train if options.exact is None else options.exact
        self._labels = self._reader.labels[self._samples] if options.balanced else None
        self._ranks = (options.rank,) if isinstance(options.rank, int) else tuple(options.rank)
        order = self._order(0)
        shares = [len(share_of(order, each, options.world_size)) for each in self._ranks]
        self._batches = [_batches(share, options.batch_size, self._exact) for share in shares]
        self._epochs: weakref.WeakSet[ReadAhead] = weakref.WeakSet()

    def __len__(self) -> int:
        """Batches per epoch on this rank, or these."""
        return sum(self._batches)

    def epoch(self, epoch: int, *, start: int = 0, view: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch number `start` on.

        `view` gives the same pictures in the same order, transformed with other random numbers.
        However the loop over it ends, its thread ends with it. What goes wrong in that thread is
        raised here: InputError if the beton is damaged.
        """
        options = self._options
        # No seed in evaluation: tasks draw from the keys, and every network meets the same.
        key = random_key(options.seed if options.train else 0, epoch, view)
        order = self._order(epoch)
        # A sample that is drawn several times is transformed anew each time. Without `balanced`
        # none is: what fills up the last round of the ranks stays as it was before.
        times = np.zeros_like(order) if self._labels is None else came_before(order)
        of_ranks = [
            self._parts(
                share_of(order, rank, options.world_size),
                repeated_keys(key, share_of(times, rank, options.world_size)),
                count,
            )
            for rank, count in zip(self._ranks, self._batches, strict=True)
        ]
        in_turn = [part for step in zip_longest(*of_ranks) for part in step if part is not None]
        if not (parts := in_turn[start:]):
            return
        side = options.resolution_of(epoch) if options.resolution_of else options.resolution
        reading = ReadAhead(self._reader, parts, side)
        self._epochs.add(reading)
        try:
            yield from reading
        finally:
            reading.close()

    def close(self) -> None:
        """End every epoch that is still being read, and the decoding threads."""
        for reading in list(self._epochs):
            reading.close()
        self._reader.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, epoch: int) -> np.ndarray:
        return epoch_order(
            self._samples,
            shuffle=not self._exact,
            seed=self._options.seed,
            epoch=epoch,
            world_size=self._options.world_size,
            pad=not self._exact,
            labels=self._labels,
        )

    def _parts(self, order: np.ndarray, keys: np.ndarray, batches: int) -> list[BatchSamples]:
        """The first batches of one rank, of its samples and their keys."""
        size = self.batch_size
        firsts = range(0, min(len(order), batches * size), size)
        return [BatchSamples(order[i : i + size], keys[i : i + size]) for i in firsts]


def _batches(samples: int, batch_size: int, exact: bool) -> int:
    """Of one rank in an epoch: all full but the last, which is left out unless `exact`."""
    return -(-samples // batch_size) if exact else max(samples // batch_size, 1)


def _check_sides(
    manifest: Manifest, pictures: np.ndarray, samples: np.ndarray, resolution: int
) -> None:
    """Raise InputError, naming the first, for a picture smaller than what is cut out of it.

    pictures: FFCV's records of the samples.
    """
    small = np.minimum(pictures["height"], pictures["width"]) < resolution
    if small.any():
        first = int(np.flatnonzero(small)[0])
        height, width = (int(pictures[side][first]) for side in ("height", "width"))
        raise InputError(
            f"data.resolution: expected pictures of at least {resolution} pixels a side, of which "
            f"patches of {resolution} x {resolution} are cut, found {int(small.sum()):,} smaller "
            f"ones in {manifest.beton}, the first sample {int(samples[first])} of {width} x "
            f"{height}; lower it, or leave those out"
        )


def _checked(indices: np.ndarray | None, samples: int) -> np.ndarray:
    if indices is None:
        return np.arange(samples)
    indices = np.asarray(indices, np.int64)
    if not len(indices):
        raise InputError("loader indices: expected at least one sample, found none")
    if indices.min() < 0 or indices.max() >= samples:
        raise InputError(
            f"loader indices: expected 0 to {samples - 1}, found {indices.min()} to {indices.max()}"
        )
    return indices
