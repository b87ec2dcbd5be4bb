"""Progress with an estimate of the time left: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 5.0
UNITS = {"table": "rows"}  # what a stage counts, where it is not steps


def unit_of(stage: str) -> str:
    """What the progress of a stage counts: steps of a worker, or rows of a table."""
    return UNITS.get(stage, "steps")


class Progress:
    """Progress of one long piece of work, on stderr.

        with Progress("ingest train", total=1437, unit="images") as progress:
            progress.update(done, loss=0.5)

    On a terminal it is a bar; elsewhere a line when it starts, one at most every five seconds
    while it goes on, and one when it ends. The time left is the time taken so far, in proportion.
    """

    def __init__(self, name: str, total: int, unit: str = "") -> None:
        """`total`: units of work in all; `unit`: their name, such as "images"."""
        self.name, self.total, self.unit = name, total, unit
        self._done = 0
        self._fields = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit, markup=False),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}", markup=False),
                console=Console(file=sys.stderr),
            )
            self._task = self._bar.add_task(self.name, total=self.total, values="")
            self._bar.start()
        else:
            self._line(f"{self.name}: 0/{self.total} {self.unit}".rstrip())
        return self

    def update(self, done: int, **fields: float | str) -> None:
        """`done` of the total are done by now; `fields` are shown with it."""
        self._done = done
        if fields:
            self._fields = " ".join(f"{name} {_short(value)}" for name, value in fields.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, values=self._fields)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._line(self._state(eta=True))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._line(self._state(eta=False) + ("" if kind is None else ", stopped"))

    def _state(self, eta: bool) -> str:
        passed = time.monotonic() - self._start
        share = self._done / self.total if self.total else 1.0
        text = f"{self.name}: {self._done}/{self.total} {self.unit}".rstrip()
        text += f" ({share:.0%}), {clock(passed)} elapsed"
        if eta and self._done:
            text += f", ETA {clock(passed * (self.total - self._done) / self._done)}"
        return text + (f", {self._fields}" if self._fields else "")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{whole % 60:02}"


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
