"""What a driver reports of its run while it runs: to a file on its machine, and to its log.

Every event goes to `$DSNET_HOME/runs/ID.json`, folded into the run's state (`run_state.py`), for
`dsnet jobs status` in another terminal; and where DSNET_EVENTS is set, as in a submitted job, to
stderr as one line of JSON, which the same command reads through the dashboard. Of progress the file
has one a second at most, the log one in five seconds, and in one minute where a stage is long.
docs/jobs.md lists the events and their fields.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from dsnet.io.files import atomic_file
from pipeline.cluster.driver import this_driver
from pipeline.cluster.run_state import DONE, FAILED, PREFIX, STOPPED, RunState
from pipeline.config import home

logger = logging.getLogger(__name__)

VARIABLE = "DSNET_EVENTS"
_FILE_S = 1.0
_LOG_S = (5.0, 60.0)
_LOG_SHARE = 0.01  # of the time that a stage has taken
_KEPT = 100


class Journal:
    """Writes the events of one run. A failure to write is warned of once, and never raised."""

    def __init__(self, folder: Path, name: str, to_log: bool) -> None:
        """folder: of the files of runs, made if need be. to_log: whether stderr gets them too."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        self.file = folder / f"{name}-{stamp}-{os.getpid()}.json"
        self._to_log = to_log
        self._state = RunState()
        self._lock = threading.Lock()
        self._warned = False
        self._written = self._logged = 0.0
        # Of the stage at work: its name, when it told first how far it is, and how far that was.
        self._first: tuple[str, float, int] | None = None

    def tell(self, event: str, **fields: Any) -> None:
        """An event that happens seldom, at once."""
        line = {"event": event, "time": round(time.time(), 3), **fields}
        with self._lock:
            self._state.add(line)
            self._write()
            self._log(line)

    def progress(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """How far a stage is, as often as it says."""
        now = time.monotonic()
        with self._lock:
            if self._first is None or self._first[0] != stage or done < self._first[2]:
                self._first = stage, now, done
                self._logged = self._written = 0.0  # the first is told at once
            _, began, before = self._first
            # A stage that goes on from a checkpoint has not done in this time what it begins with.
            eta = (now - began) * (total - done) / (done - before) if done > before else None
            line = {
                "event": "progress",
                "time": round(time.time(), 3),
                "stage": stage,
                "done": done,
                "total": total,
                "eta_s": None if eta is None else round(eta, 1),
                "figures": dict(figures),
            }
            self._state.add(line)
            if now - self._written >= _FILE_S:
                self._write()
            shortest, longest = _LOG_S
            if now - self._logged >= min(longest, max(shortest, _LOG_SHARE * (now - began))):
                self._logged = now
                self._log(line)

    def stage_began(self) -> None:
        """The next progress is another stage's, or another try's."""
        with self._lock:
            self._first = None

    def _write(self) -> None:
        self._written = time.monotonic()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.file) as temporary:
                temporary.write_text(json.dumps(asdict(self._state)))
        except OSError as error:  # DiskFullError too: a training does not stop for this
            if not self._warned:
                self._warned = True
                logger.warning("dsnet jobs will not see this run: %s", error)

    def _log(self, line: Mapping[str, Any]) -> None:
        if self._to_log:
            sys.stderr.write(f"{PREFIX}{json.dumps(line, separators=(',', ':'))}\n")
            sys.stderr.flush()


_journal: Journal | None = None
"""This process's, while it runs a chain or a sweep."""


def runs_folder() -> Path:
    """Where drivers on this machine keep the states of their runs."""
    return home() / "runs"


@contextmanager
def told(command: str, name: str) -> Iterator[None]:
    """Within, what this process tells is of one run, from its beginning to its end.

    command: such as `run`. name: the configuration's.
    """
    global _journal
    folder = runs_folder()
    _forget_old(folder)
    _journal = Journal(folder, name, bool(os.environ.get(VARIABLE)))
    tell("run", command=command, name=name, driver=this_driver())
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        message = "" if stopped else " ".join(str(error).split())[:1000] or type(error).__name__
        tell("end", state=STOPPED if stopped else FAILED, message=message)
        raise
    else:
        tell("end", state=DONE)
    finally:
        _journal = None


def tell(event: str, **fields: Any) -> None:
    """Tell an event of this process's run; nothing where it is none."""
    if _journal is not None:
        _journal.tell(event, **fields)


def progress(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Tell how far a stage is."""
    if _journal is not None:
        _journal.progress(stage, done, total, figures)


@contextmanager
def stage(name: str, run_id: str | None) -> Iterator[None]:
    """Within, this process's run is at a stage."""
    if _journal is not None:
        _journal.stage_began()
    tell("stage", stage=name, run_id=run_id)
    state = FAILED
    try:
        yield
        state = DONE
    except KeyboardInterrupt:
        state = STOPPED
        raise
    finally:
        tell("stage_end", stage=name, run_id=run_id, state=state)


def _forget_old(folder: Path) -> None:
    """Leave the newest hundred; what cannot be removed stays."""
    if not folder.is_dir():
        return
    try:
        files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_KEPT]:
            file.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("states of old runs stay: %s", error)
