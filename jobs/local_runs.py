"""The runs of this machine, by the files that their drivers keep in DSNET_HOME/runs."""

import difflib
import json
from pathlib import Path
from typing import Any

from dsnet.errors import InputError
from dsnet.io.files import read_small
from jobs.ray_jobs import LATEST
from pipeline.cluster.events import runs_folder
from pipeline.cluster.run_state import STOPPED, interrupted, new_state
from pipeline.config import home
from pipeline.store.driver import lives

_MOST_BYTES = 2**20
_GONE = "its driver was killed; the same command goes on from the newest checkpoint"


def runs() -> list[dict[str, Any]]:
    """The state of every run, the newest first; one whose driver is gone has stopped."""
    files = runs_folder(home()).glob("*.json")
    states = [state for state in map(_read, files) if state is not None]
    return sorted(states, key=lambda state: -(state["started"] or 0.0))


def find(run: str) -> dict[str, Any]:
    """The run of that id, or the `latest`. Raises InputError, with the nearest, for no such one."""
    known = {state["job"]: state for state in runs()}
    if not known:
        raise InputError(
            f"JOB {run}: expected a run of this machine, found none in {runs_folder(home())}; "
            "--address URL asks a cluster"
        )
    if run == LATEST:
        return next(iter(known.values()))
    if run not in known:
        nearest = difflib.get_close_matches(run, known, n=1, cutoff=0)[0]
        raise InputError(
            f"JOB {run}: expected a run of this machine, found none of that id; the nearest is "
            f"{nearest} ({known[nearest]['state']}), and --address URL asks a cluster"
        )
    return known[run]


def _read(file: Path) -> dict[str, Any] | None:
    """None for what is no state of this version of the code."""
    try:
        state = json.loads(read_small(file, _MOST_BYTES, "the state of a run"))
    except (OSError, ValueError, RecursionError):
        return None  # it may just have been removed
    if not isinstance(state, dict) or state.keys() != new_state().keys():
        return None
    if lives(str(state["driver"])) is False:
        state = interrupted(state, STOPPED, _GONE)
    return {"job": file.stem, **state}
