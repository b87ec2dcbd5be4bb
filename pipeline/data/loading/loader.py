"""Batches from a beton: FFCV's reader, with an order, a decoder and an ending of our own.

What FFCV 1.0.2 does that a training cannot live with, and this file does not: an epoch left early
leaks its thread and buffers, an exception in its thread leaves the consumer waiting for ever, its
batches are overwritten two batches later, a damaged JPEG passes silently, an order of one's own
is refused, evaluation repeats pictures, and constructing it sets torch's threads to its own.
"""

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dsnet import normalize
from dsnet.errors import InputError
from pipeline.config import OwnRecipe
from pipeline.data.augment.augmentation import Augmentation
from pipeline.data.augment.mixing import Mixing
from pipeline.data.augment.recipes import Recipe, get_recipe
from pipeline.data.beton_format import JPEG
from pipeline.data.digest import file_state
from pipeline.data.ffcv import Compiler, PipelineSpec
from pipeline.data.ffcv import Loader as FFCVLoader
from pipeline.data.headers import picture_pixels
from pipeline.data.loading.decoder import PictureDecoder
from pipeline.data.loading.order import came_before, epoch_order, share_of
from pipeline.data.manifest import Beton, Manifest, verify
from pipeline.data.random_bits import random_key, repeated_keys, streams
from pipeline.data.remote.beton import at_hand
from pipeline.data.threads import torch_threads

if TYPE_CHECKING:
    from dsnet import DSNet

BATCHES_AHEAD = 2
_Part = tuple[np.ndarray, np.ndarray]  # sample numbers and keys of a batch
_building = threading.Lock()


@dataclass(frozen=True)
class Batch:
    """Pictures that belong to the reader: nothing overwrites them later."""

    images: torch.Tensor
    """uint8 (N, H, W, 3), RGB."""
    labels: torch.Tensor
    """int64 (N,)."""
    indices: torch.Tensor
    """int64 (N,): sample numbers in the beton."""
    keys: torch.Tensor
    """int64 (N,): of the seed, epoch, view and sample, for what a task draws; without the seed in
    evaluation, so that every network is measured on the same."""
    augmentation: Augmentation | None = None
    """What the recipe has beyond the decoder, still to be done; None: nothing."""
    mixing: Mixing | None = None
    """How pictures and labels are mixed; None: they are not."""

    def on(self, device: torch.device) -> torch.Tensor:
        """The pictures on a device, uint8 (N, H, W, 3), with all of the recipe but the mixing."""
        images = self.images.to(device, non_blocking=True)
        if self.augmentation is None:
            return images
        return self.augmentation.of(images, self.indices.numpy())

    def pair(self, model: "DSNet", device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The (inputs, targets) of `model.task`, on a device.

        For classification: normalised images (N, 3, H, W) and labels (N,), or where they are mixed
        probabilities (N, classes).
        """
        images = normalize(self.on(device), model.metadata.mean, model.metadata.std)
        labels = self.labels.to(device, non_blocking=True)
        if self.mixing is not None:
            classes = model.architecture.num_classes if model.task.labelled else None
            images, labels = self.mixing.of(images, labels, classes)
        return model.task.pair(images, labels, self.keys.to(device, non_blocking=True))


class Loader:
    """Batches of one rank's share of a beton, epoch after epoch.

    Training (`train=True`): shuffled by (seed, epoch), transformed at random, as many batches on
    every rank, all full (a last batch that is not is left out, unless it is the only one).
    Evaluation: in order, nothing random, and over all ranks every picture exactly once.

    What a picture looks like depends on (seed, epoch, view) and its number alone: not on the
    batch size, the threads or the ranks.
    """

    def __init__(
        self,
        beton: Beton,
        *,
        batch_size: int,
        recipe: str | OwnRecipe | Recipe,
        train: bool,
        resolution: int,
        seed: int = 0,
        indices: np.ndarray | None = None,
        rank: int | Sequence[int] = 0,
        world_size: int = 1,
        threads: int = 1,
        exact: bool | None = None,
        pin: bool = False,
        mix: bool = False,
        balanced: bool = False,
        resolution_of: Callable[[int], int] | None = None,
    ) -> None:
        """
        beton: a file that `ingest` wrote, or one in a store, which is staged to this node first.
        batch_size: pictures per batch on this rank.
        recipe: name of a recipe, or one.
        resolution: height and width of the network's input, in pixels.
        indices: the samples to read; by default all of them.
        rank: whose share is read, of `world_size`. Several where one worker stands in for others:
            a batch of each in turn, so that what all read in a step is the same as without it.
        threads: decoding at once.
        exact: in order and every picture once, as in evaluation, but still transformed at random
            if `train`; by default `not train`.
        pin: page-locked memory, for copies to a GPU that do not block.
        mix: whether batches are to be mixed, where the recipe has mixup or CutMix.
        balanced: an epoch has as many samples of every class, see `epoch_order`; for training.
        resolution_of: the resolution of the epoch of a number, where it is not that of all.

        The beton is held to its manifest first, see `verify`.

        Raises InputError if the beton is missing, has no manifest or not what it describes, or if
        a number is wrong.
        """
        for name, value in (
            ("batch_size", batch_size),
            ("resolution", resolution),
            ("threads", threads),
        ):
            if value < 1:
                raise InputError(f"loader {name}: expected 1 or more, found {value}")
        beton = at_hand(beton)
        state = file_state(beton) if beton.is_file() else None
        self.manifest = verify(beton)
        self.batch_size, self.resolution = batch_size, resolution
        self._seed = seed if train else 0
        self._resolution_of = resolution_of or (lambda epoch: resolution)
        self._threads, self._pin = threads, pin
        recipe = recipe if isinstance(recipe, Recipe) else get_recipe(recipe)
        self._recipe = recipe.numbers(train)
        self._augments = recipe if train and recipe.augments else None
        self._mixes = recipe if mix and recipe.mixes else None
        exact = not train if exact is None else exact
        chosen = _checked(indices, self.manifest.samples)
        self._ffcv = _ffcv_loader(self.manifest.beton, batch_size, chosen, resolution)
        self._labels = self._ffcv.reader.metadata["f1"]
        self._order: dict[str, Any] = {"samples": chosen, "shuffle": not exact, "pad": not exact}
        self._order |= {"seed": seed, "world_size": world_size}
        self._ranks = (rank,) if isinstance(rank, int) else tuple(rank)
        if balanced:
            self._order["labels"] = self._labels[chosen]
        pictures = self._ffcv.reader.metadata["f0"]
        if recipe.native:
            _check_sides(self.manifest, pictures[chosen], chosen, resolution)
        self._room = 3 * int(picture_pixels(pictures[pictures["mode"] == JPEG]).max(initial=0))
        self._state = file_state(beton)
        if self._state != state:
            raise self._changed()
        order = epoch_order(epoch=0, **self._order)
        shares = [len(share_of(order, each, world_size)) for each in self._ranks]
        self._batches = [_batches(share, batch_size, exact) for share in shares]
        self._pool: ThreadPoolExecutor | None = None
        self._scratch = threading.local()
        self._epochs: weakref.WeakSet[_Epoch] = weakref.WeakSet()

    def __len__(self) -> int:
        """Batches per epoch on this rank, or these."""
        return sum(self._batches)

    def epoch(self, epoch: int, *, start: int = 0, view: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch number `start` on.

        `view` gives the same pictures in the same order, transformed with other random numbers.
        However the loop over it ends, its thread ends with it. What goes wrong in that thread is
        raised here: InputError if the beton is damaged.
        """
        order = epoch_order(epoch=epoch, **self._order)
        times = self._times(order)
        key, ranks = random_key(self._seed, epoch, view), self._order["world_size"]
        of_ranks = [
            self._parts(share_of(order, rank, ranks), share_of(times, rank, ranks), key, count)
            for rank, count in zip(self._ranks, self._batches, strict=True)
        ]
        in_turn = [part for step in zip_longest(*of_ranks) for part in step if part is not None]
        if not (batches := in_turn[start:]):
            return
        reading = _Epoch(self, batches, self._resolution_of(epoch))
        self._epochs.add(reading)
        try:
            yield from reading
        finally:
            reading.close()

    def close(self) -> None:
        """End every epoch that is still being read, and the decoding threads."""
        for reading in list(self._epochs):
            reading.close()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parts(
        self, order: np.ndarray, times: np.ndarray, key: np.uint64, batches: int
    ) -> list[_Part]:
        """The first batches of one rank, of its samples and how often each came before."""
        firsts = range(0, min(len(order), batches * self.batch_size), self.batch_size)
        parts = [slice(first, first + self.batch_size) for first in firsts]
        return [(order[part], repeated_keys(key, times[part])) for part in parts]

    def _times(self, order: np.ndarray) -> np.ndarray:
        """How often each sample of an epoch's order came before in it, over all ranks.

        So that one that is drawn several times is transformed anew each time. 0 where nothing is
        drawn: what fills up the last round of the ranks is as it was before.
        """
        return came_before(order) if "labels" in self._order else np.zeros_like(order)

    def _read(self, indices: np.ndarray, keys: np.ndarray, side: int, storage: Any) -> Batch:
        """Decode one batch, in parts that the threads share."""
        self._check_unchanged()
        count = len(indices)
        images = torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=self._pin)
        statuses = np.empty(count, np.uint8)

        def part(first: int, end: int) -> None:
            scratch = self._thread_scratch()
            pixels = images.numpy()[first:end]
            memory = (pixels, statuses[first:end], scratch, self._recipe, keys[first:end])
            self._run(indices[first:end], memory, storage)

        if self._pool is None:
            # The threads outlive the epoch: turbojpeg keeps, and never frees, a handle for each.
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        size = max(1, -(-count // (4 * self._threads))) if self._threads > 1 else count
        firsts = range(0, count, size)
        list(self._pool.map(part, firsts, [min(first + size, count) for first in firsts]))
        if statuses.any():
            wrong = int(indices[np.flatnonzero(statuses)[0]])
            raise InputError(
                f"{self.manifest.beton}, sample {wrong}: expected a picture that decodes to the "
                "pixels that its header says, found a damaged one: run `dsnet ingest` again"
            )
        labels = torch.from_numpy(self._labels[indices].astype(np.int64))
        augments, mixes = self._augments, self._mixes
        return Batch(
            images,
            labels,
            torch.from_numpy(indices.copy()),
            torch.from_numpy(streams(keys, indices).view(np.int64)),
            Augmentation(augments, keys, self.manifest.mean) if augments else None,
            Mixing(mixes.mixup, mixes.cutmix, keys[0], int(indices[0])) if mixes else None,
        )

    def _check_unchanged(self) -> None:
        """Refuse a file written to since it was verified; one that took its name is not read."""
        with contextlib.suppress(FileNotFoundError):
            now, then = file_state(self.manifest.beton), self._state
            same = (now.device, now.inode) == (then.device, then.inode)
            if same and (now.size, now.modified) != (then.size, then.modified):
                raise self._changed()

    def _changed(self) -> InputError:
        return InputError(
            f"{self.manifest.beton}: expected a file that nobody writes to, found it changed since "
            "it was verified: start again when it is whole"
        )

    def _thread_scratch(self) -> np.ndarray:
        """This thread's room for the largest JPEG. Pages never written take no memory."""
        if not hasattr(self._scratch, "array"):
            self._scratch.array = np.empty(self._room, np.uint8)
        scratch: np.ndarray = self._scratch.array
        return scratch

    def _run(self, indices: np.ndarray, memory: Any, storage: Any) -> None:
        """FFCV's pipeline over some samples, with memory of our own."""
        stages, _ = self._ffcv.code
        (node,) = self._ffcv.graph.nodes
        for stage, _ in stages:
            stage(
                batch_indices=indices,
                metadata=self._ffcv.reader.metadata,
                storage_state=storage,
                **{f"memory_{node.id}": memory, f"shared_memory_{node.id}": None},
            )


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


def _ffcv_loader(beton: Path, batch_size: int, indices: np.ndarray, resolution: int) -> FFCVLoader:
    """FFCV's loader, its code not compiled: the decoder is, and the rest runs once per batch."""
    with _building, torch_threads():
        Compiler.set_enabled(False)
        try:
            return FFCVLoader(
                str(beton),
                batch_size,
                num_workers=1,
                os_cache=True,
                indices=indices,
                pipelines={
                    "image": PipelineSpec("image", decoder=PictureDecoder(resolution)),
                    "label": None,
                },
                drop_last=False,
            )
        finally:
            Compiler.set_enabled(True)


class _Epoch(Iterator[Batch]):
    """One pass: a thread that reads ahead, and the end that takes from it."""

    def __init__(self, loader: Loader, batches: list[_Part], side: int) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(BATCHES_AHEAD)
        self._stop = threading.Event()
        # The thread must not hold this object, or it could never be collected.
        self._thread = threading.Thread(
            target=_read_ahead,
            args=(loader, batches, side, self._queue, self._stop),
            name="read ahead",
            daemon=True,
        )
        self._thread.start()

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise RuntimeError("the loader was closed in the middle of this epoch")
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            raise StopIteration
        return item

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        while self._thread.is_alive():
            while not self._queue.empty():  # it may be waiting for room
                self._queue.get_nowait()
            self._thread.join(timeout=0.02)


def _read_ahead(
    loader: Loader,
    batches: list[_Part],
    side: int,
    into: "queue.Queue[Batch | BaseException | None]",
    stop: threading.Event,
) -> None:
    try:
        manager = loader._ffcv.memory_manager
        with manager.schedule_epoch([indices for indices, _ in batches]) as context:
            storage = (np.asarray(manager.context.mmap), manager.ptrs, manager.sizes)
            manager.expect(batches[0][0])
            del context
            for number, (indices, keys) in enumerate(batches):
                if stop.is_set():
                    return
                for coming, _ in batches[number + 1 : number + 2]:
                    manager.expect(coming)
                into.put(loader._read(indices, keys, side, storage))
        into.put(None)
    except BaseException as error:  # whatever it is, the consumer must hear of it
        into.put(error)
