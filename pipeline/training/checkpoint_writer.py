"""Checkpoints are written while training goes on: in a thread, aside, one at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dsnet.io.files import atomic_directory
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Report


class CheckpointWriter:
    """Writes the checkpoints of one stage into its folder.

    What fails in its thread is raised by the next `write` or `wait`.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(1, "checkpoint")  # its thread starts with the first one
        self._under_way: Future[None] | None = None

    def write(self, fill: Callable[[Path], object], report: Report) -> None:
        """Let `fill` write a folder's files, and seal it; waits only for the one before.

        `fill` runs in another thread: what it writes must not change any more. Nothing comes after
        a final one: it is there, or has raised what went wrong, when this returns.
        """
        self.wait()
        self._under_way = self._pool.submit(self._write, fill, report)
        if report.final:
            self.wait()

    def wait(self) -> None:
        """Until what is under way is there, whole."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """End the thread, what is under way with it done; what it raises is not heard of."""
        self._pool.shutdown()

    def _write(self, fill: Callable[[Path], object], report: Report) -> None:
        checkpoint.remove_unfinished(self._run)
        with atomic_directory(checkpoint.next_folder(self._run)) as folder:
            fill(folder)
            checkpoint.seal(folder, report, self._run)
        checkpoint.remove_old(self._run)
