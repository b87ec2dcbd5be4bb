"""Stage I that pauses after a step, for something to happen to it just then.

Workers import this module: it needs to be light.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from pipeline.stages import supernet
from pipeline.stages.stage import Stage
from pipeline.training.worker import Worker

_LOOKS_S = 0.02


@dataclass(frozen=True)
class Where:
    """The worker that pauses."""

    pid: int
    node: str
    """Hexadecimal id of its node."""


@dataclass(frozen=True)
class Pause:
    """One rank waits after a step, the others with it at their next collective, until `go_on`."""

    folder: Path
    """Of its own; for a test and the worker to meet."""
    step: int
    """Steps done by then since the beginning of the training, from 1."""
    rank: int = 0

    def within(self, stage: Stage[Any] = supernet.STAGE) -> Stage[Any]:
        """Stage I, or such a one with a pause already, with this pause in it."""
        return replace(stage, loop=partial(_loop, self, stage.loop))

    def reached(self, over: Callable[[], bool], within: float = 180) -> Where:
        """Wait for the worker. over: whether it can never come, for the training has ended."""
        deadline = time.monotonic() + within
        while not self._reached.exists():
            assert not over(), "the training ended before the step"
            assert time.monotonic() < deadline, "no worker came to the step"
            time.sleep(_LOOKS_S)
        return Where(**json.loads(self._reached.read_text()))

    def go_on(self) -> None:
        """Let the worker go on, and others pass by from now on."""
        self._gone.touch()

    def wait(self) -> None:
        """For the worker: say that it is there, and wait."""
        if self._gone.exists():
            return
        aside = self._reached.with_suffix(".aside")
        node = ray.get_runtime_context().get_node_id()
        aside.write_text(json.dumps({"pid": os.getpid(), "node": node}))
        aside.rename(self._reached)
        while not self._gone.exists():
            time.sleep(_LOOKS_S)

    @property
    def _reached(self) -> Path:
        return self.folder / f"reached-{self.step}"

    @property
    def _gone(self) -> Path:
        return self.folder / f"gone-on-{self.step}"


def _loop(pause: Pause, loop: Callable[[Worker, Any], None], worker: Worker, inputs: Any) -> None:
    progress = worker.progress

    def watched(done: int, total: int, **fields: float) -> None:
        if done == pause.step and worker.rank == pause.rank:
            pause.wait()
        progress(done, total, **fields)

    worker.progress = watched  # type: ignore[method-assign]
    loop(worker, inputs)
