"""Checkpoints are written while training goes on: in a thread, aside, one at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dsnet.io.files import atomic_directory
from pipeline.training import checkpoint
from pipeline.training.checkpoint import CheckpointReport


class CheckpointWriter:
    """Writes the checkpoints of one stage into its folder.

    What fails in its thread is raised by the next `write` or `wait`.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(1, "checkpoint")  # its thread starts with the first one
        self._under_way: Future[None] | None = None

    def write(self, fill: Callable[[Path], object], report: CheckpointReport) -> None:
        """Let `fill` write a folder's files, and seal it; waits only for the one before.

        `fill` runs in another thread: what it writes must not change any more. A final one is whole
        when this returns, or what went wrong is raised here: nothing comes after it.
        """
        self.wait()
        self._under_way = self._pool.submit(self._write, fill, report)
        if report.final:
            self.wait()

    def wait(self) -> None:
        """Return when the checkpoint being written is whole."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """End the thread once the checkpoint being written is; what that raises is lost."""
        self._pool.shutdown()

    def _write(self, fill: Callable[[Path], object], report: CheckpointReport) -> None:
        checkpoint.remove_unfinished(self._run)
        with atomic_directory(checkpoint.next_folder(self._run)) as folder:
            fill(folder)
            checkpoint.seal(folder, report, self._run)
        checkpoint.remove_old(self._run)
