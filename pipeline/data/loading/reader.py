"""Samples of a beton decoded into batches, on threads, with memory of our own.

FFCV's reader opens the file and its C library decodes. The loader of FFCV 1.0.2 is not used, for
what a training cannot live with: an epoch left early leaks its thread and buffers, an exception in
its thread leaves the consumer waiting for ever, its batches are overwritten two batches later, a
damaged JPEG passes silently, an order of one's own is refused, and evaluation repeats pictures.
"""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dsnet.errors import InputError
from pipeline.data.augment.augmentation import Augmentation
from pipeline.data.augment.mixing import Mixing
from pipeline.data.augment.recipes import Recipe
from pipeline.data.beton_format import JPEG
from pipeline.data.digest import file_state
from pipeline.data.ffcv import Reader as BetonReader
from pipeline.data.headers import picture_pixels
from pipeline.data.loading.batch import Batch
from pipeline.data.loading.decoder import decode
from pipeline.data.loading.mapped_file import MappedFile
from pipeline.data.manifest import verify
from pipeline.data.random_bits import streams


class Reader:
    """The pictures of a beton by their numbers, as a recipe has them.

    The beton is held to its manifest first, see `verify`; raises InputError where it is not what
    that describes.
    """

    def __init__(
        self, beton: Path, recipe: Recipe, *, train: bool, mix: bool, threads: int, pin: bool
    ) -> None:
        """Arguments as fields of `LoaderOptions`."""
        state = file_state(beton) if beton.is_file() else None
        self.manifest = verify(beton)
        self._threads, self._pin = threads, pin
        self._recipe = recipe.numbers(train)
        self._augments = recipe if train and recipe.augments else None
        self._mixes = recipe if mix and recipe.mixes else None
        beton_reader = BetonReader(str(beton))
        self._file = MappedFile(beton_reader)
        self.pictures: np.ndarray = beton_reader.metadata["f0"]
        self.labels: np.ndarray = beton_reader.metadata["f1"]
        jpegs = self.pictures[self.pictures["mode"] == JPEG]
        self._room = 3 * int(picture_pixels(jpegs).max(initial=0))
        self._state = file_state(beton)
        if self._state != state:
            raise self._changed()
        self._pool: ThreadPoolExecutor | None = None
        self._scratch = threading.local()

    def expect(self, indices: np.ndarray) -> None:
        """Have the kernel read these samples ahead, where the file does not stay in memory."""
        self._file.expect(indices)

    def close(self) -> None:
        """End the decoding threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def read(self, indices: np.ndarray, keys: np.ndarray, side: int) -> Batch:
        """Decode one batch, in parts that the threads share.

        keys: uint64 (N,), of the seed, epoch and view, see `random_key`. side: in pixels.
        """
        self._check_unchanged()
        count = len(indices)
        images = torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=self._pin)
        statuses = np.empty(count, np.uint8)
        storage = (np.asarray(self._file.content), self._file.addresses, self._file.sizes)

        def part(first: int, end: int) -> None:
            scratch = self._thread_scratch()
            pixels = images.numpy()[first:end]
            memory = (pixels, statuses[first:end], scratch, self._recipe, keys[first:end])
            decode(indices[first:end], memory, self.pictures, storage)

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
        labels = torch.from_numpy(self.labels[indices].astype(np.int64))
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
