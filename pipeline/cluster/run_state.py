"""What a run has come to: its events, one after another, folded into one state.

An event is a flat JSON object with `event` (its kind), `time` (seconds since 1970) and what
`pipeline/cluster/events.py` says of it. Whoever has the events, in a job's log, comes to the state
that the driver itself keeps in a file.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "dsnet-event "
"""What a line of a log begins with that holds an event."""
LONGEST_LINE = 2**16
"""Characters of such a line; what is longer is not an event."""

RUNNING, WAITING, THERE, DONE, STOPPED, FAILED = (
    "running",
    "waiting",
    "there",
    "done",
    "stopped",
    "failed",
)


@dataclass
class StageState:
    """One stage of a run."""

    stage: str
    """Its name."""
    state: str = WAITING
    why: str = ""
    """Why it will run."""
    version: str | None = None
    """What it has registered, where it need not be run."""
    run_id: str | None = None
    """Of its MLflow run."""
    started: float | None = None
    ended: float | None = None
    done: float | None = None
    """Of `total` steps or rows."""
    total: float | None = None
    eta_s: float | None = None
    epoch: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """What it reported last, such as losses."""
    said: str = ""


@dataclass
class RunState:
    """What a run has come to. Times are in seconds since 1970; None or empty is not known yet."""

    command: str = ""
    name: str = ""
    """The configuration's."""
    driver: str = ""
    state: str = WAITING
    started: float | None = None
    ended: float | None = None
    heard: float | None = None
    """When the newest event came."""
    message: str = ""
    """Why it failed."""
    mlflow: dict[str, str] = field(default_factory=dict)
    """run_id, experiment_id and uri of the run of the chain."""
    stages: list[StageState] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    """What it registered."""
    report: dict[str, str] = field(default_factory=dict)
    """run_id, artifact and page, of a sweep."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunState":
        """The inverse of `asdict`. Raises TypeError or KeyError for anything else."""
        return cls(**{**values, "stages": [StageState(**stage) for stage in values["stages"]]})

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in an event; one of an unknown kind changes `heard` alone."""
        time = _number(event.get("time"))
        self.heard = time if time is not None else self.heard
        match event.get("event"):
            case "run":
                self.command, self.name, self.driver = _texts(event, "command", "name", "driver")
                self.state, self.started = RUNNING, time
            case "plan":
                planned = event.get("stages")
                rows = planned if isinstance(planned, list) else []
                self.stages = [_planned(each) for each in rows if isinstance(each, Mapping)]
            case "mlflow":
                keys = ("run_id", "experiment_id", "uri")
                self.mlflow = dict(zip(keys, _texts(event, *keys), strict=True))
            case "there":
                stage = self._waiting(str(event.get("stage", "")))
                stage.state, stage.version = THERE, str(event.get("version", ""))
            case "stage":
                stage = self._waiting(str(event.get("stage", "")))
                stage.state, stage.started, stage.run_id = RUNNING, time, event.get("run_id")
            case "progress" | "epoch" | "said" | "stage_end":
                at_work = (each for each in reversed(self.stages) if each.state == RUNNING)
                for stage in at_work:
                    if stage.stage == event.get("stage"):
                        _go_on(stage, event, time)
                        break
            case "registered":
                self.versions.append(str(event.get("version", "")))
            case "report":
                keys = ("run_id", "artifact", "page")
                self.report = dict(zip(keys, _texts(event, *keys), strict=True))
            case "end":
                self.state, self.ended = str(event.get("state", DONE)), time
                self.message = str(event.get("message", ""))

    def interrupt(self, how: str, message: str) -> None:
        """Its driver is known to be gone, and could not say so itself; nothing if it had ended."""
        if self.state not in (RUNNING, WAITING):
            return
        self.state, self.message = how, self.message or message
        for stage in self.stages:
            if stage.state == RUNNING:
                stage.state, stage.eta_s = how, None

    def _waiting(self, name: str) -> StageState:
        """A stage that begins: the one that was planned, or one more."""
        for stage in self.stages:
            if stage.stage == name and stage.state in (WAITING, THERE):
                return stage
        self.stages.append(StageState(name))
        return self.stages[-1]


def parse_line(line: str) -> dict[str, Any] | None:
    """The event in a line of a log, where it holds one."""
    if not line.startswith(PREFIX) or len(line) > LONGEST_LINE:
        return None
    try:
        event = json.loads(line.removeprefix(PREFIX))
    except ValueError:
        return None  # cut: the rest of it is still to come
    return event if isinstance(event, dict) else None


def state_of(lines: Iterable[str]) -> RunState:
    """The state that a log tells."""
    state = RunState()
    for line in lines:
        if (event := parse_line(line)) is not None:
            state.add(event)
    return state


def _planned(row: Mapping[str, Any]) -> StageState:
    stage = StageState(str(row.get("stage", "")), why=str(row.get("why", "")))
    if row.get("version"):
        stage.state, stage.version = THERE, str(row["version"])
    return stage


def _go_on(stage: StageState, event: Mapping[str, Any], time: float | None) -> None:
    """Take in an event of a stage at work."""
    match event["event"]:
        case "progress":
            stage.done, stage.total = _number(event.get("done")), _number(event.get("total"))
            stage.eta_s = _number(event.get("eta_s"))
            stage.figures = _figures(event.get("figures"))
        case "epoch":
            stage.epoch = _number(event.get("epoch"))
        case "said":
            stage.said = str(event.get("line", ""))
        case "stage_end":
            stage.state, stage.ended = str(event.get("state", DONE)), time
            if stage.state == DONE:
                stage.done, stage.eta_s = stage.total, 0.0


def _texts(event: Mapping[str, Any], *keys: str) -> list[str]:
    return [str(event.get(key, "")) for key in keys]


def _figures(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    numbers = {str(name): _number(number) for name, number in value.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
