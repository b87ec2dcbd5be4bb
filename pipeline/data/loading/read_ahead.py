"""One pass over batches: a thread that reads ahead, and the end that takes from it."""

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.data.loading.batch import Batch
from pipeline.data.loading.reader import Reader

BATCHES_AHEAD = 2
_Queue = queue.Queue[Batch | BaseException | None]


class BatchSamples(NamedTuple):
    """The samples of one batch."""

    indices: np.ndarray
    """int64 (N,): sample numbers in the beton."""
    keys: np.ndarray
    """uint64 (N,): of the seed, epoch and view, see `random_key`."""


class ReadAhead(Iterator[Batch]):
    """The batches of an epoch, in order. What goes wrong in the thread is raised in `next`."""

    def __init__(self, reader: Reader, parts: list[BatchSamples], side: int) -> None:
        """side: of the pictures, in pixels."""
        self._queue: _Queue = queue.Queue(BATCHES_AHEAD)
        self._stop = threading.Event()
        # The thread must not hold this object, or it could never be collected.
        self._thread = threading.Thread(
            target=_read,
            args=(reader, parts, side, self._queue, self._stop),
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


def _read(
    reader: Reader, parts: list[BatchSamples], side: int, into: _Queue, stop: threading.Event
) -> None:
    try:
        reader.expect(parts[0].indices)
        for number, part in enumerate(parts):
            if stop.is_set():
                return
            for coming in parts[number + 1 : number + 2]:
                reader.expect(coming.indices)
            into.put(reader.read(part.indices, part.keys, side))
        into.put(None)
    except BaseException as error:  # whatever it is, the consumer must hear of it
        into.put(error)
