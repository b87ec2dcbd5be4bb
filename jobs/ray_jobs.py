"""The dsnet jobs of a cluster, through its dashboard alone: a list, and the state of each."""

import difflib
import getpass
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import requests
from ray.job_submission import JobDetails, JobSubmissionClient

from dsnet.errors import InputError, OutageError
from dsnet.errors.text import line
from pipeline.cluster.run_state import DONE, FAILED, PREFIX, STOPPED, RunState, state_of

LATEST = "latest"
STOP_SECONDS = 60.0
_OURS = frozenset(("name", "command", "code", "user"))  # what `dsnet submit` gives a job's metadata
_TRAINS = frozenset(("run", "sweep"))  # what `latest` may be; the doctor's own job is none
NO_ANSWER = (RuntimeError, OSError, requests.RequestException)
"""What Ray's client raises when the dashboard does not answer, or has lost its cluster."""
_ENDED = {"SUCCEEDED": DONE, "FAILED": FAILED, "STOPPED": STOPPED}


@dataclass(frozen=True)
class Listed:
    """A job, as a list has it."""

    job: str
    name: str
    command: str
    state: str
    """Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    started: float | None
    """Seconds since 1970."""
    took: float | None
    """Seconds, up to now where it has not ended."""
    user: str
    """Who submitted it."""

    @classmethod
    def of(cls, details: JobDetails) -> "Listed":
        metadata = details.metadata or {}
        started = _seconds(details.start_time)
        ended = _seconds(details.end_time) or time.time()
        return cls(
            str(details.submission_id),
            metadata["name"],
            metadata["command"],
            str(details.status.value),
            started,
            None if started is None else max(0.0, ended - started),
            metadata["user"],
        )


@dataclass(frozen=True)
class JobState:
    """How far a job is."""

    job: str
    """Its id."""
    run: RunState
    ray: str | None = None
    """Ray's word for it; None for a run of this machine."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"job": self.job, **({"ray": self.ray} if self.ray else {}), **asdict(self.run)}


def find_by_id(job: str, known: Mapping[str, str], expected: str, elsewhere: str) -> str:
    """`job`, if it is one of the `known` ids, which have a description each.

    Raises InputError, with the nearest, for another one. expected: what was. elsewhere: where else
    to look.
    """
    if job in known:
        return job
    nearest = difflib.get_close_matches(job, known, n=1, cutoff=0)[0]
    raise InputError(
        f"JOB {job}: expected {expected}, found none of that id; the nearest is {nearest} "
        f"({known[nearest]}), and {elsewhere}"
    )


def jobs_of(client: JobSubmissionClient) -> list[Listed]:
    """Every job that dsnet submitted, the newest first. Raises OutageError without an answer."""
    with _answering(client):
        jobs = client.list_jobs()
    ours = (job for job in jobs if job.submission_id and _is_ours(job))
    return sorted(map(Listed.of, ours), key=lambda job: -(job.started or 0.0))


def find(client: JobSubmissionClient, job: str) -> Listed:
    """The job of that id, or the `latest` run or sweep of who asks.

    On a cluster of several people the newest of all may be another's, and may be stopped by this
    name. Raises InputError, with the nearest, for no such one.
    """
    known = jobs_of(client)
    where = client.get_address()
    if not known:
        raise InputError(f"JOB {job}: expected a job of {where}, found none there: dsnet submit")
    if job == LATEST:
        own = (j for j in known if j.user == user() and j.command.partition(" ")[0] in _TRAINS)
        if (newest := next(own, None)) is not None:
            return newest
        raise InputError(
            f"JOB {job}: expected a run or sweep that {user()} submitted to {where}, found none "
            "among its jobs; name one by its id, dsnet jobs list has all"
        )
    described = {each.job: f"{each.name}, {each.state}" for each in known}
    find_by_id(job, described, f"a dsnet job of {where}", "dsnet jobs list has all")
    return next(each for each in known if each.job == job)


def user() -> str:
    """Who submits from here, as others on the cluster would call them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        return str(os.getuid())


@contextmanager
def _answering(client: JobSubmissionClient) -> Iterator[None]:
    """Within, a dashboard that does not answer is an OutageError, in a line."""
    try:
        yield
    except NO_ANSWER as error:
        raise OutageError(
            f"Ray's dashboard at {client.get_address()} does not answer any more ({line(error)}); "
            "ask again when the cluster is back"
        ) from error


def logs(client: JobSubmissionClient, job: Listed) -> str:
    """What a job has said. Raises OutageError without an answer."""
    with _answering(client):
        return str(client.get_job_logs(job.job))


def status(client: JobSubmissionClient, job: Listed) -> JobState:
    """The state that a job's events tell, with what the cluster knows of its end.

    Raises OutageError where the dashboard does not answer.
    """
    run = state_of(logs(client, job).splitlines())
    with _answering(client):
        details = client.get_job_info(job.job)
    if details.status.is_terminal():
        reason = str(details.message or "").partition(", last available logs")[0]
        run.interrupt(_ENDED.get(details.status.value, FAILED), reason)
    # Ray's word for it, until its driver has told more.
    run.name, run.command = run.name or job.name, run.command or job.command
    run.started = run.started or job.started
    return JobState(job.job, run, details.status.value)


def stop(client: JobSubmissionClient, job: Listed) -> str:
    """Stop a job and wait until it is; the state that it ended in, also if it had before.

    Raises InputError if it has not ended after a minute, OutageError without an answer.
    """
    with _answering(client):
        client.stop_job(job.job)
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        with _answering(client):
            found = client.get_job_status(job.job)
        if found.is_terminal():
            return str(found.value)
        if time.monotonic() > deadline:
            raise InputError(
                f"JOB {job.job}: expected it to end within {STOP_SECONDS:.0f} s of being stopped, "
                f"found it {found.value}; dsnet jobs status tells when it is"
            )
        time.sleep(0.2)


def for_people(write: Callable[[str], object]) -> Callable[[str], None]:
    """`write`, given a log in pieces of any length, without the lines that are events."""
    return _lines(write, events=False)


def events_alone(write: Callable[[str], object]) -> Callable[[str], None]:
    """The events of a log that comes in pieces, each a line of JSON."""
    return _lines(write, events=True)


def _lines(write: Callable[[str], object], events: bool) -> Callable[[str], None]:
    held = ""  # the beginning of a line that may be an event
    within = False  # whether what comes next goes on a line of people's

    def take(text: str) -> None:
        nonlocal held, within
        kept = []
        text, held = held + text, ""
        for piece in re.findall("[^\n]*\n|[^\n]+", text):
            whole = piece.endswith("\n")
            event = not within and piece.startswith(PREFIX)
            if not whole and not within and (event or PREFIX.startswith(piece)):
                held = piece
                break
            if event is events:
                kept.append(piece.removeprefix(PREFIX) if event else piece)
            within = not whole
        if kept:
            write("".join(kept))

    return take


def _is_ours(details: JobDetails) -> bool:
    metadata: Mapping[str, str] = details.metadata or {}
    return metadata.keys() >= _OURS


def _seconds(milliseconds: int | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000
