"""When a training looks at itself and when it is saved: by steps and by the clock of rank 0."""

import json
import time
from dataclasses import dataclass

from pipeline.training.worker import Worker

SECONDS_BETWEEN_LOOKS = 2.0
MOST_STEPS_BETWEEN_LOOKS = 100


@dataclass(frozen=True)
class Due:
    """What is to be done after a step."""

    look: bool
    """To look at losses: the host waits for the device."""
    checkpoint: bool
    leave: bool = False
    """To go on elsewhere from that checkpoint: a node is about to be taken away."""


class Intervals:
    """After which steps of an epoch something is due; the same on every rank.

    Looks are as many steps apart as take two seconds, as rank 0 counted at the look before.
    """

    def __init__(self, worker: Worker, steps: int | None, minutes: float | None) -> None:
        self._worker, self._steps, self._minutes = worker, steps, minutes
        self._looked = self._saved = time.monotonic()
        self._since, self._until = 0, 1

    def after(self, step: int) -> Due:
        """What is due after the step of that number in its epoch; a collective."""
        self._since += 1
        by_steps = self._steps is not None and step % self._steps == 0
        if self._since < self._until and not by_steps:
            return Due(False, False)
        save, until = self._decided()
        self._since, self._until = 0, until
        leave = self._worker.preempted()
        save = save or by_steps or leave
        if save:
            self._saved = time.monotonic()
        return Due(True, save, leave)

    def _decided(self) -> tuple[bool, int]:
        """Rank 0's: whether a checkpoint is due or waited for, and the steps to the next look."""
        now = time.monotonic()
        seconds = max(now - self._looked, 1e-9) / self._since
        self._looked = now
        save = self._minutes is not None and now - self._saved >= 60 * self._minutes
        until = min(max(int(SECONDS_BETWEEN_LOOKS / seconds), 1), MOST_STEPS_BETWEEN_LOOKS)
        save = save or self._worker.must_save()
        first = self._worker.gather_bytes(json.dumps([save, until]).encode())[0]
        save, until = json.loads(first)
        return save, until
