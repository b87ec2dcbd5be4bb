"""Progress across processes: a training worker writes it on a board, the driver shows it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.cluster import events
from pipeline.cluster.progress import Progress

SECONDS_BETWEEN_LOOKS = 0.5


class Board:
    """The newest state of one piece of work."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def write(self, total: int, done: int, fields: dict[str, float]) -> None:
        self._state = {"total": total, "done": done, "fields": fields}

    def add(self, total: int) -> None:
        """One more of `total` is done; for writers that do not know how many others are."""
        done = self._state["done"] if self._state else 0
        self._state = {"total": total, "done": done + 1, "fields": {}}

    def read(self) -> dict[str, Any] | None:
        return self._state


@contextmanager
def shown(name: str, unit: str = "steps") -> Iterator[Any]:
    """A board whose state is shown as progress for as long as the block runs."""
    board: Any = ray.remote(num_cpus=0)(Board).remote()
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(board, name, unit, stop), daemon=True)
    thread.start()
    try:
        with events.stage(name, None):
            yield board
    finally:
        stop.set()
        thread.join()
        ray.kill(board)


def _show(board: Any, name: str, unit: str, stop: threading.Event) -> None:
    progress: Progress | None = None
    while True:
        last = stop.wait(SECONDS_BETWEEN_LOOKS)
        state = ray.get(board.read.remote())
        if state is not None:
            if progress is None:
                progress = Progress(name, total=state["total"], unit=unit).__enter__()
            progress.update(state["done"], **state["fields"])
            events.progress(name, state["done"], state["total"], state["fields"])
        if last:
            break
    if progress is not None:
        progress.__exit__(None, None, None)
