"""Between a driver and its workers: the stage that is to run, what it reports, how it ended.

An actor. It imports neither torch nor a stage: loops, inputs and errors go through it as bytes.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_NEWS_S = 1.0


@dataclass(frozen=True)
class Task:
    """A stage that workers are to run."""

    number: int
    """Of the tasks of these workers, from 1."""
    stage: str
    work: bytes
    """The pickled loop, inputs, configuration and folder of checkpoints."""


@dataclass(frozen=True)
class Said:
    """A line for people."""

    line: str
    warning: bool = False
    newest: tuple[str, str] | None = None
    """Shown beside the progress from here on: what it is, and its value."""


@dataclass(frozen=True)
class News:
    """What a driver has not heard yet of its task."""

    progress: tuple[int, int] | None
    """Done and total."""
    figures: tuple[int, dict[str, float]]
    """How much was done when these figures of it were taken: losses so far, speed."""
    usage: dict[int, dict[str, float]]
    """What of each node is in use."""
    reports: list[dict[str, Any]]
    """Metrics, in order."""
    said: list[Said]
    ended: bool
    """Whether every worker is through."""
    left: bool
    """Whether the workers have left it, saved, for a node is about to be taken away."""
    error: bytes | None
    """The pickled exception that another try would raise again."""


@dataclass
class _State:
    """Of the newest task."""

    progress: tuple[int, int] | None = None
    figures: tuple[int, dict[str, float]] = (0, {})
    usage: dict[int, dict[str, float]] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    through: set[int] = field(default_factory=set)
    ended: bool = False
    error: bytes | None = None
    attempts: int = 0
    preempted: bool = False
    left: bool = False
    save: bool = False


class StageQueue:
    """The newest task, and its state. Workers that are started anew find the task again."""

    def __init__(self) -> None:
        self._workers = 0
        self._task: Task | None = None
        self._state = _State()
        self._closed = False
        self._controller: Any = None
        self._present: set[int] = set()
        self._change = asyncio.Condition()

    # For the driver -------------------------------------------------------------------------------

    async def offer(self, task: Task) -> None:
        """The next task, when the one before has ended."""
        async with self._change:
            self._task, self._state = task, _State()
            self._change.notify_all()

    async def news(self, reports: int, said: int) -> News:
        """What is new after so many reports and lines; at once, or after a second."""

        def is_new() -> bool:
            state = self._state
            return (
                state.ended
                or state.error is not None
                or state.left
                or len(state.reports) > reports
                or len(state.said) > said
            )

        async with self._change:
            with suppress(TimeoutError):  # nothing is new
                await asyncio.wait_for(self._change.wait_for(is_new), _NEWS_S)
            state = self._state
            return News(
                state.progress,
                state.figures,
                state.usage,
                state.reports[reports:],
                state.said[said:],
                state.ended,
                state.left,
                state.error,
            )

    async def present(self) -> int:
        """How many workers there are, when all have asked for a task; 0 after a second."""
        async with self._change:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait_for(self._is_whole), _NEWS_S)
            return self._workers if self._is_whole() else 0

    async def attempts(self) -> int:
        """How often the task was begun, but for those times that a node was taken away."""
        return self._state.attempts

    async def close(self) -> None:
        """There is no further task: workers leave."""
        async with self._change:
            self._closed = True
            self._change.notify_all()

    async def controller(self) -> Any:
        """Handle of Ray Train's controller, once it has announced itself."""
        return self._controller

    # For Ray Train's controller -------------------------------------------------------------------

    async def announce(self, controller: Any) -> None:
        """The controller's handle, for the driver to abort it by."""
        self._controller = controller

    async def gather(self, workers: int) -> None:
        """So many workers start, in place of those before; which begin the task anew, if any."""
        async with self._change:
            before, self._workers, self._present = self._workers, workers, set()
            self._state.through, self._state.save = set(), False
            if self._is_open() and before != workers:
                self._state.said.append(
                    Said(f"{workers} of its workers go on, where {before} were")
                )
                self._change.notify_all()

    async def save(self, within_s: float) -> None:
        """Have the task saved, for its workers are about to be replaced by more or fewer.

        Returns when it is, or is not there to be saved, or after `within_s` seconds.
        """

        def is_safe() -> bool:
            return not self._state.save or not self._is_open()

        async with self._change:
            if not self._is_open():
                return
            self._state.save = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait_for(is_safe), within_s)
            # The next to take it have not failed.
            self._state.preempted = True

    # For the workers ------------------------------------------------------------------------------

    async def take(self, after: int, rank: int) -> Task | None:
        """The task after the one numbered `after`, when it is there; None when there is none more.

        Of a task that has ended, also by an error, workers that are started anew hear nothing.
        """

        def is_next() -> bool:
            return self._closed or (
                self._task is not None and self._task.number > after and self._is_open()
            )

        async with self._change:
            self._present.add(rank)
            self._change.notify_all()
            await self._change.wait_for(is_next)
            if self._closed:
                return None
            if rank == 0:
                self._state.attempts += not self._state.preempted
                self._state.preempted = False
            return self._task

    async def write(self, number: int, done: int, total: int, figures: dict[str, float]) -> None:
        """How far the task is, and where there are any, figures of it."""
        if self._is_at(number):
            self._state.progress = done, total
            if figures:
                self._state.figures = done, figures

    async def use(self, number: int, node: int, figures: dict[str, float]) -> None:
        """What of a node is in use."""
        if self._is_at(number):
            self._state.usage[node] = figures

    async def report(self, number: int, index: int, metrics: dict[str, Any]) -> None:
        """The task's report number `index`, from 0. What is reported again has been heard."""
        async with self._change:
            if self._is_at(number) and index == len(self._state.reports):
                self._state.reports.append(metrics)
                self._change.notify_all()

    async def say(self, number: int, said: Said) -> None:
        """A line for whoever looks on."""
        async with self._change:
            if self._is_at(number):
                self._state.said.append(said)
                self._change.notify_all()

    async def fail(self, number: int, error: bytes) -> None:
        """The task has ended without a result, in a way that another try would repeat."""
        async with self._change:
            if self._is_at(number) and self._state.error is None:
                self._state.error = error
                self._change.notify_all()

    async def preempt(self, number: int) -> None:
        """A node will be taken away: when workers are started anew for that, it is no failure."""
        if self._is_at(number):
            self._state.preempted = True

    async def wants_saving(self, number: int) -> bool:
        """Whether its workers are about to be replaced."""
        return self._is_at(number) and self._state.save

    async def saved(self, number: int) -> None:
        """There is a checkpoint of where the task is."""
        async with self._change:
            if self._is_at(number):
                self._state.save = False
                self._change.notify_all()

    async def leave(self, number: int) -> None:
        """The workers leave the task, with a checkpoint from which others go on."""
        async with self._change:
            if self._is_at(number):
                self._state.left = True
                self._change.notify_all()

    async def end(self, number: int, rank: int) -> None:
        """One worker is through with the task."""
        async with self._change:
            if self._is_at(number):
                self._state.through.add(rank)
                self._state.ended = len(self._state.through) == self._workers
                self._change.notify_all()

    def _is_whole(self) -> bool:
        return 0 < self._workers == len(self._present)

    def _is_open(self) -> bool:
        """Whether there is a task that has not come to an end."""
        return self._task is not None and not self._state.ended and self._state.error is None

    def _is_at(self, number: int) -> bool:
        return self._task is not None and self._task.number == number
