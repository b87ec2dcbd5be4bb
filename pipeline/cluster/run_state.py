"""What a run has come to: its events, one after another, folded into one state.

An event is a flat JSON object with `event` (its kind), `time` (seconds since 1970) and what
`pipeline/cluster/events.py` says of it. Whoever has the events, in a job's log, comes to the state
that the driver itself keeps in a file.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "dsnet-event "
"""What a line of a log begins with that holds an event."""
LONGEST_LINE = 2**16
"""Characters of such a line; what is longer is nobody's event."""

RUNNING, WAITING, THERE, DONE, STOPPED, FAILED = (
    "running",
    "waiting",
    "there",
    "done",
    "stopped",
    "failed",
)


def new_state() -> dict[str, Any]:
    """The state of a run that has told nothing yet."""
    return {
        "command": "",
        "name": "",
        "driver": "",
        "state": WAITING,
        "started": None,
        "ended": None,
        "heard": None,
        "message": "",
        "mlflow": {},
        "stages": [],
        "versions": [],
        "report": {},
    }


def fold(state: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """The state after `event`, a new one; an event of an unknown kind leaves all but `heard`."""
    state = {**state, "stages": [dict(stage) for stage in state["stages"]]}
    time = _number(event.get("time"))
    state["heard"] = time if time is not None else state["heard"]
    match event.get("event"):
        case "run":
            state |= {key: str(event.get(key, "")) for key in ("command", "name", "driver")}
            state |= {"state": RUNNING, "started": time}
        case "plan":
            planned = event.get("stages")
            state["stages"] = (
                [_planned(each) for each in planned if isinstance(each, Mapping)]
                if isinstance(planned, list)
                else []
            )
        case "mlflow":
            keys = ("run_id", "experiment_id", "uri")
            state["mlflow"] = {key: str(event.get(key, "")) for key in keys}
        case "there":
            stage = _waiting(state["stages"], str(event.get("stage", "")))
            stage |= {"state": THERE, "version": str(event.get("version", ""))}
        case "stage":
            stage = _waiting(state["stages"], str(event.get("stage", "")))
            stage |= {"state": RUNNING, "started": time, "run_id": event.get("run_id")}
        case "progress":
            if (at := _running(state["stages"], event)) is not None:
                numbers = {key: _number(event.get(key)) for key in ("done", "total", "eta_s")}
                at |= numbers | {"figures": _figures(event.get("figures"))}
        case "epoch":
            if (at := _running(state["stages"], event)) is not None:
                at["epoch"] = _number(event.get("epoch"))
        case "said":
            if (at := _running(state["stages"], event)) is not None:
                at["said"] = str(event.get("line", ""))
        case "stage_end":
            if (at := _running(state["stages"], event)) is not None:
                at |= {"state": str(event.get("state", DONE)), "ended": time}
                if at["state"] == DONE:
                    at["done"], at["eta_s"] = at["total"], 0.0
        case "registered":
            state["versions"] = [*state["versions"], str(event.get("version", ""))]
        case "report":
            keys = ("run_id", "artifact", "page")
            state["report"] = {key: str(event.get(key, "")) for key in keys}
        case "end":
            state |= {"state": str(event.get("state", DONE)), "ended": time}
            state["message"] = str(event.get("message", ""))
    return state


def interrupted(state: dict[str, Any], how: str, message: str = "") -> dict[str, Any]:
    """The state of a run whose driver is known to be gone, where it could not say so itself."""
    if state["state"] not in (RUNNING, WAITING):
        return state
    stages = [
        {**stage, "state": how, "eta_s": None} if stage["state"] == RUNNING else stage
        for stage in state["stages"]
    ]
    return {**state, "state": how, "message": state["message"] or message, "stages": stages}


def parse_line(line: str) -> dict[str, Any] | None:
    """The event in a line of a log, where it holds one."""
    if not line.startswith(PREFIX) or len(line) > LONGEST_LINE:
        return None
    try:
        event = json.loads(line.removeprefix(PREFIX))
    except ValueError:
        return None  # cut: the rest of it is still to come
    return event if isinstance(event, dict) else None


def state_of(lines: Iterable[str]) -> dict[str, Any]:
    """The state that a log tells."""
    state = new_state()
    for line in lines:
        if (event := parse_line(line)) is not None:
            state = fold(state, event)
    return state


def _planned(stage: Mapping[str, Any]) -> dict[str, Any]:
    entry = _entry(str(stage.get("stage", "")))
    entry["why"] = str(stage.get("why", ""))
    if stage.get("version"):
        entry |= {"state": THERE, "version": str(stage["version"])}
    return entry


def _entry(name: str) -> dict[str, Any]:
    return {
        "stage": name,
        "state": WAITING,
        "why": "",
        "version": None,
        "run_id": None,
        "started": None,
        "ended": None,
        "done": None,
        "total": None,
        "eta_s": None,
        "epoch": None,
        "figures": {},
        "said": "",
    }


def _waiting(stages: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The entry of a stage that begins: the one that was planned, or one more."""
    for stage in stages:
        if stage["stage"] == name and stage["state"] in (WAITING, THERE):
            return stage
    stages.append(_entry(name))
    return stages[-1]


def _running(stages: list[dict[str, Any]], event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest entry at work of the stage that an event is of."""
    at_work = (each for each in reversed(stages) if each["state"] == RUNNING)
    return next((each for each in at_work if each["stage"] == event.get("stage")), None)


def _figures(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    numbers = {str(name): _number(number) for name, number in value.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
