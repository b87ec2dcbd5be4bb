"""Between a driver and its workers: the stage to run, what it reports, how it ended.

An actor. It imports neither torch nor a stage: loops, inputs and errors go through it as bytes.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

_NEWS_S = 1.0


@dataclass(frozen=True)
class QueuedStage:
    """A stage that workers are to run."""

    number: int
    """Of the stages of these workers, from 1."""
    name: str
    assignment: bytes
    """The pickled `Assignment`."""


@dataclass(frozen=True)
class Message:
    """A line for people."""

    line: str
    warning: bool = False
    newest: tuple[str, str] | None = None
    """Shown with the progress from here on: what it is, and its value."""


@dataclass
class StageState:
    """How the newest stage goes; a driver is sent the reports and messages that are new to it."""

    progress: tuple[int, int] | None = None
    """Done and total."""
    figures: tuple[int, dict[str, float]] = (0, {})
    """How much was done when these figures of it were taken: losses so far, speed."""
    usage: dict[int, dict[str, float]] = field(default_factory=dict)
    """What of each node is in use."""
    reports: list[dict[str, Any]] = field(default_factory=list)
    """Metrics, in order."""
    messages: list[Message] = field(default_factory=list)
    done_by: set[int] = field(default_factory=set)
    """Ranks that are through."""
    ended: bool = False
    """Whether every worker is."""
    left: bool = False
    """Whether the workers have left it, saved, for a node is about to be taken away."""
    error: bytes | None = None
    """The pickled exception that another try would raise again."""
    attempts: int = 0
    """How often it was begun, except after a node was taken away."""
    preempted: bool = False
    """Whether the next workers start because a node is taken away, which is no failure."""
    save: bool = False
    """Whether its workers are to save, as they are about to be replaced."""


class StageQueue:
    """The newest stage, and its state. Workers that are started again find it here."""

    def __init__(self) -> None:
        self._workers = 0
        self._stage: QueuedStage | None = None
        self._state = StageState()
        self._closed = False
        self._controller: Any = None
        self._present: set[int] = set()
        self._change = asyncio.Condition()

    # For the driver -------------------------------------------------------------------------------

    async def offer(self, stage: QueuedStage) -> None:
        """The next stage, when the one before has ended."""
        async with self._change:
            self._stage, self._state = stage, StageState()
            self._change.notify_all()

    async def news(self, reports: int, messages: int) -> StageState:
        """The state after so many reports and messages; as soon as it is new, or after a second."""

        def is_new() -> bool:
            state = self._state
            return (
                state.ended
                or state.error is not None
                or state.left
                or len(state.reports) > reports
                or len(state.messages) > messages
            )

        async with self._change:
            with suppress(TimeoutError):  # nothing is new
                await asyncio.wait_for(self._change.wait_for(is_new), _NEWS_S)
            state = self._state
            return replace(
                state, reports=state.reports[reports:], messages=state.messages[messages:]
            )

    async def present(self) -> int:
        """How many workers there are, when all have asked for a stage; 0 after a second."""
        async with self._change:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait_for(self._is_whole), _NEWS_S)
            return self._workers if self._is_whole() else 0

    async def attempts(self) -> int:
        """How often the stage was begun; see `StageState`."""
        return self._state.attempts

    async def close(self) -> None:
        """There is no further stage: workers leave."""
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
        """So many workers start in place of those before, and begin an unfinished stage again."""
        async with self._change:
            before, self._workers, self._present = self._workers, workers, set()
            self._state.done_by, self._state.save = set(), False
            if self._is_open() and before != workers:
                line = f"{workers} of its workers go on, where {before} were"
                self._state.messages.append(Message(line))
                self._change.notify_all()

    async def save(self, within_s: float) -> None:
        """Have the stage saved, for its workers are about to be replaced by more or fewer.

        Returns when it is saved or ended, or after `within_s` seconds.
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

    async def take(self, after: int, rank: int) -> QueuedStage | None:
        """The stage after the one numbered `after`, when there is one; None: there are no more.

        Workers that are started again count from 0, so that they take the newest stage again,
        unless it has ended or failed.
        """

        def is_next() -> bool:
            return self._closed or (
                self._stage is not None and self._stage.number > after and self._is_open()
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
            return self._stage

    async def put(self, number: int, **fields: Any) -> None:
        """Set fields of the stage's state."""
        async with self._change:
            if self._is_at(number):
                for name, value in fields.items():
                    setattr(self._state, name, value)
                self._change.notify_all()

    async def use(self, number: int, node: int, figures: dict[str, float]) -> None:
        """What of a node is in use."""
        if self._is_at(number):
            self._state.usage[node] = figures

    async def report(self, number: int, index: int, metrics: dict[str, Any]) -> None:
        """Report number `index`, from 0. A resumed stage repeats its reports: those are known."""
        async with self._change:
            if self._is_at(number) and index == len(self._state.reports):
                self._state.reports.append(metrics)
                self._change.notify_all()

    async def say(self, number: int, message: Message) -> None:
        """A line for whoever looks on."""
        async with self._change:
            if self._is_at(number):
                self._state.messages.append(message)
                self._change.notify_all()

    async def wants_saving(self, number: int) -> bool:
        """Whether its workers are about to be replaced."""
        return self._is_at(number) and self._state.save

    async def end(self, number: int, rank: int) -> None:
        """One worker is through with the stage."""
        async with self._change:
            if self._is_at(number):
                self._state.done_by.add(rank)
                self._state.ended = len(self._state.done_by) == self._workers
                self._change.notify_all()

    def _is_whole(self) -> bool:
        return 0 < self._workers == len(self._present)

    def _is_open(self) -> bool:
        """Whether there is a stage that has not ended or failed."""
        state = self._state
        return self._stage is not None and not state.ended and state.error is None

    def _is_at(self, number: int) -> bool:
        return self._stage is not None and self._stage.number == number
