"""dsnet jobs: what runs on a cluster or on this machine, how far it is, and its end."""

import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsnet.errors import InputError
from jobs.output import print_json, print_path, print_table, program, working
from pipeline.cluster.interrupts import stopped_by
from pipeline.cluster.progress import clock, unit_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from jobs.ray_jobs import Listed


@click.group("jobs", no_args_is_help=False)
def command() -> None:
    """See and stop what was submitted to a cluster, or runs on this machine.

    JOB is an id that dsnet submit or dsnet jobs list prints, or the word latest, which status and
    logs take where it is left out: of a cluster, the newest run or sweep that you submitted.

    \b
    Examples:
      dsnet jobs list --address http://127.0.0.1:8265
      dsnet jobs status --address http://127.0.0.1:8265
      dsnet jobs status                         of dsnet run in another terminal of this machine
    """


def address_flag(required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option --address; where it is not required, and left out, this machine is meant."""
    return click.option(
        "--address",
        required=required,
        envvar="RAY_API_SERVER_ADDRESS",
        show_envvar=True,
        metavar="URL",
        help="Ray's dashboard on the cluster's head node."
        + ("" if required else " Left out: the runs of this machine."),
    )


json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
job_argument = click.argument("job", metavar="JOB")
job_or_latest = click.argument("job", metavar="[JOB]", default="latest")


@command.command("list")
@address_flag(required=False)
@json_flag
def list_(address: str | None, as_json: bool) -> None:
    """List jobs, the newest first: id, name, command, state, when it started, how long it took.

    \b
    Examples:
      dsnet jobs list --address http://127.0.0.1:8265
      dsnet jobs list --json
    """
    rows = _jobs(address)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("no jobs yet; dsnet submit run starts one")
        return
    keys = ("job", "name", "command", "state")
    cells = [(*(row[key] for key in keys), _at(row["started"]), _took(row["took"])) for row in rows]
    print_table((*keys, "started", "took"), cells)


def _jobs(address: str | None) -> list[dict[str, Any]]:
    if address is None:
        from jobs import local_runs

        keys = ("job", "name", "command", "state", "started")
        return [
            {**{key: run[key] for key in keys}, "took": _seconds(run)} for run in local_runs.runs()
        ]
    from dataclasses import asdict

    with working():
        from jobs import ray_jobs, submit

        return [asdict(job) for job in ray_jobs.jobs_of(submit.connect(address))]


@command.command("status")
@job_or_latest
@address_flag(required=False)
@json_flag
def status(job: str, address: str | None, as_json: bool) -> None:
    """Show how far a job is: its stages, their progress and ETA, its MLflow runs.

    The job's driver tells it stage by stage in its log, from where this reads it through the
    dashboard; of a run on this machine, in a file of DSNET_HOME.

    \b
    Examples:
      dsnet jobs status --address http://127.0.0.1:8265
      dsnet jobs status raysubmit_Zx8k1 --address http://127.0.0.1:8265 --json
    """
    state = _status(job, address)
    if as_json:
        print_json({**state, "links": _links(state)})
    else:
        _print_state(state)


def _status(job: str, address: str | None) -> dict[str, Any]:
    if address is None:
        from jobs import local_runs

        return local_runs.find(job)
    with working():
        from jobs import ray_jobs

        client, found = _found(job, address)
        return ray_jobs.status(client, found)


@command.command("logs")
@job_or_latest
@address_flag(required=True)
@click.option("--follow", is_flag=True, help="Go on to the job's end, and end with its status.")
@click.option("--events", is_flag=True, help="Its events instead: one JSON object on each line.")
@click.pass_context
def logs(ctx: click.Context, job: str, address: str, follow: bool, events: bool) -> None:
    """Print what a job has said.

    \b
    Examples:
      dsnet jobs logs --address http://127.0.0.1:8265 --follow
      dsnet jobs logs latest --address http://127.0.0.1:8265 --events | jq .event
    """
    with working():
        from jobs import ray_jobs, submit

        client, found = _found(job, address)
    take = (ray_jobs.events_alone if events else ray_jobs.for_people)(write_out)
    if not follow:
        take(ray_jobs.logs(client, found))
        return
    try:
        ctx.exit(submit.exit_status(submit.follow(client, found.job, take)))
    except KeyboardInterrupt:
        ctx.exit(128 + (stopped_by() or signal.SIGINT))


@command.command("stop")
@job_argument
@address_flag(required=True)
@json_flag
def stop(job: str, address: str, as_json: bool) -> None:
    """Stop a job, and wait until it is stopped. Submitted again, the same configuration goes on.

    \b
    Examples:
      dsnet jobs stop latest --address http://127.0.0.1:8265
    """
    with working():
        from jobs import ray_jobs

        client, found = _found(job, address)
        ended = ray_jobs.stop(client, found)
        state = ray_jobs.status(client, found)
    if as_json:
        print_json(state)
        return
    if ended != "STOPPED":
        click.echo(f"{found.job} had ended before: {ended}")
        return
    at = next((s for s in state["stages"] if s["state"] == "stopped"), None)
    where = "" if at is None else f" in {at['stage']}{_at_step(at)}"
    click.echo(
        f"{found.job} is stopped{where}; the next dsnet submit {found.command.split()[0]} of the "
        "same configuration goes on from its newest checkpoint, and finds the stages that are done"
    )


@command.command("report")
@job_argument
@click.argument("out", metavar="[OUT.html]", required=False, type=click.Path(path_type=Path))
@address_flag(required=False)
@json_flag
def report(job: str, out: Path | None, address: str | None, as_json: bool) -> None:
    """Say what a job has registered and where its report is in MLflow; with OUT.html, fetch that.

    Fetching needs MLFLOW_TRACKING_URI to be the job's own tracking server.

    \b
    Examples:
      dsnet jobs report latest --address http://127.0.0.1:8265
      dsnet jobs report latest report.html --address http://127.0.0.1:8265
    """
    state = _status(job, address)
    if out is not None:
        with working():
            fetch_report(state, out)
        print_path(out, as_json)
        return
    links = _links(state)
    if as_json:
        keys = ("job", "state", "versions", "report", "mlflow")
        print_json({**{key: state[key] for key in keys}, "links": links})
        return
    click.echo(f"{state['job']}: {state['command']} {state['name']}, {state['state']}")
    for version in state["versions"]:
        click.echo(f"  registered  {version}")
    if state["report"]:
        found = state["report"]
        click.echo(f"  report      {found['artifact']} of MLflow run {found['run_id']}")
    for line in links.values():
        click.echo(f"  runs        {line}")
    if state["versions"] and not state["report"]:
        uri = state["versions"][-1]
        click.echo(f"  its page    {program('dsnet')} report {uri} OUT.html")


def fetch_report(state: Mapping[str, Any], out: Path) -> None:
    """Write the page of a job's sweep to `out`. Raises InputError where there is none to be had."""
    import shutil
    import tempfile

    from dsnet.io.files import atomic_file
    from pipeline.store import tracking

    found, job = state["report"], state["job"]
    if not found or not found["run_id"]:
        raise InputError(
            f"JOB {job}: expected a sweep that is done and has a report, found {state['command']} "
            f"of {state['name']}, {state['state']}; dsnet report MODEL OUT.html has a version's"
        )
    here, there = tracking.uri(), state["mlflow"].get("uri")
    if here != there:
        raise InputError(
            f"MLFLOW_TRACKING_URI: expected the job's own tracking server, {there}, found {here}"
        )
    with tempfile.TemporaryDirectory() as folder:
        page = tracking.artifact_of(found["run_id"], found["artifact"], Path(folder))
        if page is None:
            raise InputError(f"JOB {job}: its MLflow run has no {found['artifact']} any more")
        with atomic_file(out) as temporary:
            shutil.copyfile(page, temporary)


def write_out(text: str) -> None:
    """Text on stdout, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _found(job: str, address: str) -> "tuple[JobSubmissionClient, Listed]":
    from jobs import ray_jobs, submit

    client = submit.connect(address)
    return client, ray_jobs.find(client, job)


def _print_state(state: Mapping[str, Any]) -> None:
    took = _seconds(state)
    since = f", started {_at(state['started'])}" if state["started"] else ""
    lasted = f", {_took(took)}" if took is not None else ""
    message = f": {state['message']}" if state["message"] else ""
    title = f"{state['job']}: {state['command']} {state['name']}"
    if not state["stages"]:
        click.echo(f"{title}, {state['state']}{since}{lasted}{message}")
    else:
        rows = [
            (
                stage["stage"],
                stage["state"],
                _progress(stage),
                _took(stage["eta_s"]) if stage["state"] == "running" else "",
                _took(_seconds(stage)),
                stage["version"] or stage["run_id"] or stage["why"],
            )
            for stage in state["stages"]
        ]
        columns = ("stage", "state", "progress", "ETA", "took", "version, MLflow run, or why")
        print_table(columns, rows, f"{title}, {state['state']}{since}{lasted}{message}")
    for stage in state["stages"]:
        if stage["said"]:
            click.echo(f"{stage['stage']}: {stage['said']}")
    for version in state["versions"]:
        click.echo(f"registered {version}")
    for link in _links(state).values():
        click.echo(f"MLflow {link}")


def _links(state: Mapping[str, Any]) -> dict[str, str]:
    """Where a browser finds the chain's run and each stage's; none in an embedded store."""
    mlflow = state["mlflow"]
    if not mlflow.get("uri", "").startswith("http"):
        return {}
    base = f"{mlflow['uri'].rstrip('/')}/#/experiments/{mlflow['experiment_id']}/runs"
    runs = {"chain": mlflow["run_id"]}
    runs |= {stage["stage"]: stage["run_id"] for stage in state["stages"] if stage["run_id"]}
    return {name: f"{base}/{run}" for name, run in runs.items()}


def _progress(stage: Mapping[str, Any]) -> str:
    if not stage["total"]:
        return ""
    done, total, unit = stage["done"], stage["total"], unit_of(stage["stage"])
    return f"{done:,.0f}/{total:,.0f} {unit} ({done / total:.0%})"


def _at_step(stage: Mapping[str, Any]) -> str:
    return f", {_progress(stage)}" if stage["total"] else ""


def _seconds(part: Mapping[str, Any]) -> float | None:
    """How long a run or stage took, or takes by now."""
    if part["started"] is None:
        return None
    ended = part["ended"]
    if ended is None:
        ended = time.time() if part["state"] in ("running", "waiting") else part.get("heard")
    return None if ended is None else max(0.0, ended - part["started"])


def _at(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)
