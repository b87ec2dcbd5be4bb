"""Where a training's time goes: images per second, waiting for data, averaging gradients."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


class Throughput:
    """One worker's, since it was made. Nothing waits for the device but `figures`, once."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._start = time.perf_counter()
        self._images = 0
        self._data = self._averaging = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    def waited_for(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time until each arrives counts as waiting for data."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self._data += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def averaging(self) -> Iterator[None]:
        """Counts what happens inside as averaging gradients: on CUDA, the device's own time."""
        if self._cuda is None:
            start = time.perf_counter()
            yield
            self._averaging += time.perf_counter() - start
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((begin, end))

    def count(self, images: int) -> None:
        """So many images more were trained on."""
        self._images += images

    @property
    def images_per_second(self) -> float:
        """So far, on this worker."""
        return self._images / self._seconds

    @property
    def share_waiting_for_data(self) -> float:
        """Of the time so far, on this worker."""
        return self._data / self._seconds

    def figures(self, workers: float) -> dict[str, float]:
        """Images per second of all workers, shares of this one's time, and its memory's peak.

        workers: how many times as many images as this one's all of them have.
        """
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
            self._averaging += sum(a.elapsed_time(b) for a, b in self._events) / 1000
            self._events = []
        seconds = self._seconds
        found = {
            "images_per_second": workers * self._images / seconds,
            "share_waiting_for_data": self._data / seconds,
            "share_averaging_gradients": self._averaging / seconds,
        }
        if self._cuda is not None:
            found["peak_device_gib"] = torch.cuda.max_memory_allocated(self._cuda) / 2**30
        return found

    @property
    def _seconds(self) -> float:
        return max(time.perf_counter() - self._start, 1e-9)
