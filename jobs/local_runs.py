"""The runs of this machine, by the files that their drivers keep in DSNET_HOME/runs."""

import json
from pathlib import Path

from dsnet.errors import InputError
from dsnet.io.files import read_small
from jobs.ray_jobs import LATEST, JobState, find_by_id
from pipeline.cluster.driver import lives
from pipeline.cluster.events import runs_folder
from pipeline.cluster.run_state import STOPPED, RunState

_MOST_BYTES = 2**20
_GONE = "its driver was killed; the same command goes on from the newest checkpoint"


def runs() -> list[JobState]:
    """The state of every run, the newest first; one whose driver is gone has stopped."""
    files = runs_folder().glob("*.json")
    states = [state for state in map(_read, files) if state is not None]
    return sorted(states, key=lambda state: -(state.run.started or 0.0))


def find(run: str) -> JobState:
    """The run of that id, or the `latest`. Raises InputError, with the nearest, for no such one."""
    known = {state.job: state for state in runs()}
    if not known:
        raise InputError(
            f"JOB {run}: expected a run of this machine, found none in {runs_folder()}; "
            "--address URL asks a cluster"
        )
    if run == LATEST:
        return next(iter(known.values()))
    described = {job: state.run.state for job, state in known.items()}
    return known[
        find_by_id(run, described, "a run of this machine", "--address URL asks a cluster")
    ]


def _read(file: Path) -> JobState | None:
    """None for a file that is not the state of a run, or that has just been removed."""
    try:
        run = RunState.from_dict(json.loads(read_small(file, _MOST_BYTES, "the state of a run")))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if lives(run.driver) is False:
        run.interrupt(STOPPED, _GONE)
    return JobState(file.stem, run)
