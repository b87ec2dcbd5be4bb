"""A command as a Ray job: connect to the cluster, start, follow the logs to the end."""

import asyncio
import json
import logging
import os
import shlex
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import ray
from ray.job_submission import JobDetails, JobSubmissionClient

from dsnet.errors import InputError, OutageError
from dsnet.errors.text import line
from jobs.ray_jobs import NO_ANSWER, user
from jobs.runtime_env import CONFIG, entrypoint, runtime_env
from pipeline.cluster import token
from pipeline.cluster.ray_private import packaging_logger
from pipeline.config import Config
from pipeline.store.code_version import code_version

logger = logging.getLogger(__name__)

T = TypeVar("T")

for _name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk"):
    logging.getLogger(f"ray.{_name}").setLevel(logging.WARNING)  # each step of the upload
logging.getLogger(packaging_logger()).setLevel(logging.WARNING)  # what it leaves out

ANSWER_SECONDS = 10.0
AGENT_SECONDS = 60.0  # that a cluster which has just started may need to take a job
PATIENCE_SECONDS = 120.0  # without a word from the dashboard, before following ends


def connect(address: str) -> JobSubmissionClient:
    """A client of the Ray dashboard at `address`, which answers and accepts the token found here.

    The token is Ray's own: RAY_AUTH_TOKEN, the file in RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.
    Raises InputError if the address is not a URL, nothing answers there, or the token is refused.
    """
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InputError(
            f"--address: expected the URL of Ray's dashboard, such as http://127.0.0.1:8265, "
            f"found {address!r}"
        )
    address = address.rstrip("/")
    version = answer_of(address, "/api/version", lambda answer: str(answer["ray_version"]))
    if version != ray.__version__:
        logger.warning("the cluster runs Ray %s, this is Ray %s", version, ray.__version__)
    # Ray lets these two win over the address that it is given.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    return JobSubmissionClient(address, headers=_headers())


def _headers() -> dict[str, str]:
    """What a request to the dashboard has of a token, where one is found here.

    Ray's client finds it by itself only where RAY_AUTH_MODE=token is set as well.
    """
    found = token.find()
    return {"Authorization": f"Bearer {found}"} if found else {}


def answer_of(address: str, path: str, read: Callable[[Any], T]) -> T:
    """What `read` makes of the JSON at a path of the dashboard at `address`.

    Raises InputError for anything else than a Ray dashboard, and where the token is refused.
    """
    request = urllib.request.Request(f"{address}{path}", headers=_headers())
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return read(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise token.refused(f"--address {address}") from None
        reason = f"HTTP status {error.code}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(getattr(error, "reason", error))
    raise InputError(
        f"--address {address}: expected Ray's dashboard to answer, found: {reason}; "
        "is the cluster up, and the address that of the dashboard (port 8265)?"
    )


def submit(
    client: JobSubmissionClient,
    words: Sequence[str],
    config: Config | None = None,
    *,
    pip: bool = False,
) -> str:
    """Upload the project, and `config` if the command takes one, start `dsnet WORDS` there.

    With `pip` in an environment that each node makes first. Returns the job's id. Raises
    InputError for what `runtime_env` refuses, and where no agent of the cluster answers.
    """
    name = words[0] if config is None else config.name
    given = [] if config is None else ["--config", CONFIG]
    with tempfile.TemporaryDirectory(prefix="dsnet-submit-") as folder:
        return start(
            client,
            entrypoint=entrypoint([*words, *given], pip=pip),
            runtime_env=runtime_env(Path(folder), config, pip=pip),
            metadata={
                "name": name,
                "command": shlex.join(words),
                "code": code_version(),
                "user": user(),
            },
        )


def start(client: JobSubmissionClient, **job: Any) -> str:
    """Start a job and return its id; wait for a cluster that has just started to take any.

    Raises InputError where none of its agents comes to answer.
    """
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise InputError(
                    f"--address: expected a cluster that takes jobs, found none of its agents "
                    f"answering in {AGENT_SECONDS:.0f} s; where several clusters share a "
                    "machine, start each with its own ray start --dashboard-agent-listen-port"
                ) from None
        time.sleep(1)


def follow(client: JobSubmissionClient, job: str, write: Callable[[str], object]) -> JobDetails:
    """Hand the job's logs to `write` as they come, until it ends; return how it ended.

    A stream that drops is opened again, and goes on where it was. Raises OutageError if the
    dashboard stays away for two minutes from when it was first found so.
    """
    seen = 0  # characters written so far: each stream starts at the beginning of the log

    async def stream() -> None:
        nonlocal seen
        position = 0
        async for text in client.tail_job_logs(job):
            new = text[max(0, seen - position) :]
            position += len(text)
            if new:
                write(new)
                seen = position

    away_since: float | None = None
    while True:
        try:
            asyncio.run(stream())
        except (*NO_ANSWER, aiohttp.ClientError) as error:
            logger.debug("the stream of logs dropped: %s", error)
        try:
            details = client.get_job_info(job)
            if details.status.is_terminal():
                write(client.get_job_logs(job)[seen:])
                return details
            away_since = None
        except NO_ANSWER as error:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since > PATIENCE_SECONDS:
                raise OutageError(
                    f"no word from Ray's dashboard at {client.get_address()} for "
                    f"{PATIENCE_SECONDS:.0f} s ({line(error)}); when the cluster is back, dsnet "
                    f"jobs status {job} tells what became of the job, and submitted again the same "
                    "configuration goes on from its newest checkpoint"
                ) from error
        time.sleep(1)


def exit_status(details: JobDetails) -> int:
    """0 if the job succeeded, 2 if it found its input wrong, else 1."""
    if details.status == "SUCCEEDED":
        return 0
    return 2 if details.driver_exit_code == 2 else 1
