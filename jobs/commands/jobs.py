"""dsnet jobs: what runs on a cluster or on this machine, how far it is, and its end."""

import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsnet.errors import InputError
from jobs.output import json_flag, print_json, print_path, print_table, program, working
from pipeline.cluster.interrupts import stopped_by
from pipeline.cluster.progress import clock, unit_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from jobs.ray_jobs import JobState, Listed
    from pipeline.cluster.run_state import RunState, StageState


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

        keys = ("name", "command", "state", "started")
        return [
            {"job": each.job}
            | {key: getattr(each.run, key) for key in keys}
            | {"took": _seconds(each.run)}
            for each in local_runs.runs()
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
        print_json({**state.to_dict(), "links": _links(state.run)})
    else:
        _print_state(state)


def _status(job: str, address: str | None) -> "JobState":
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
    """Stop a job, and wait until it is stopped. Submitted again, the same configuration resumes.

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
        print_json(state.to_dict())
        return
    if ended != "STOPPED":
        click.echo(f"{found.job} had ended before: {ended}")
        return
    at = next((stage for stage in state.run.stages if stage.state == "stopped"), None)
    where = "" if at is None else f" in {', '.join(filter(None, (at.stage, _progress(at))))}"
    click.echo(
        f"{found.job} is stopped{where}; the next dsnet submit {found.command.split()[0]} of the "
        "same configuration resumes from its newest checkpoint and finds the stages that are done"
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
    run, links = state.run, _links(state.run)
    if as_json:
        values = state.to_dict()
        keys = ("job", "state", "versions", "report", "mlflow")
        print_json({**{key: values[key] for key in keys}, "links": links})
        return
    click.echo(f"{state.job}: {run.command} {run.name}, {run.state}")
    for version in run.versions:
        click.echo(f"  registered  {version}")
    if run.report:
        click.echo(f"  report      {run.report['artifact']} of MLflow run {run.report['run_id']}")
    for line in links.values():
        click.echo(f"  runs        {line}")
    if run.versions and not run.report:
        click.echo(f"  its page    {program('dsnet')} report {run.versions[-1]} OUT.html")


def fetch_report(state: "JobState", out: Path) -> None:
    """Write the page of a job's sweep to `out`. Raises InputError where there is none."""
    import shutil
    import tempfile

    from dsnet.io.files import atomic_file
    from pipeline.store import tracking

    job, run, found = state.job, state.run, state.run.report
    if not found or not found["run_id"]:
        raise InputError(
            f"JOB {job}: expected a sweep that is done and has a report, found {run.command} "
            f"of {run.name}, {run.state}; dsnet report MODEL OUT.html has a version's"
        )
    here, there = tracking.uri(), run.mlflow.get("uri")
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


def _print_state(state: "JobState") -> None:
    run = state.run
    took = _seconds(run)
    title = f"{state.job}: {run.command} {run.name}, {run.state}"
    title += f", started {_at(run.started)}" if run.started else ""
    title += f", {_took(took)}" if took is not None else ""
    title += f": {run.message}" if run.message else ""
    if not run.stages:
        click.echo(title)
    else:
        rows = [
            (
                stage.stage,
                stage.state,
                _progress(stage),
                _took(stage.eta_s) if stage.state == "running" else "",
                _took(_seconds(stage)),
                stage.version or stage.run_id or stage.why,
            )
            for stage in run.stages
        ]
        columns = ("stage", "state", "progress", "ETA", "took", "version, MLflow run, or why")
        print_table(columns, rows, title)
    for stage in run.stages:
        if stage.said:
            click.echo(f"{stage.stage}: {stage.said}")
    for version in run.versions:
        click.echo(f"registered {version}")
    for link in _links(run).values():
        click.echo(f"MLflow {link}")


def _links(run: "RunState") -> dict[str, str]:
    """Where a browser finds the chain's run and each stage's; none in an embedded store."""
    mlflow = run.mlflow
    if not mlflow.get("uri", "").startswith("http"):
        return {}
    base = f"{mlflow['uri'].rstrip('/')}/#/experiments/{mlflow['experiment_id']}/runs"
    runs = {"chain": mlflow["run_id"]}
    runs |= {stage.stage: stage.run_id for stage in run.stages if stage.run_id}
    return {name: f"{base}/{run_id}" for name, run_id in runs.items()}


def _progress(stage: "StageState") -> str:
    """How far it is; empty where it has not told."""
    if not stage.total or stage.done is None:
        return ""
    share = stage.done / stage.total
    return f"{stage.done:,.0f}/{stage.total:,.0f} {unit_of(stage.stage)} ({share:.0%})"


def _seconds(part: "RunState | StageState") -> float | None:
    """How long a run or stage took, or has taken so far."""
    if part.started is None:
        return None
    ended = part.ended
    if ended is None:
        at_work = part.state in ("running", "waiting")
        ended = time.time() if at_work else getattr(part, "heard", None)
    return None if ended is None else max(0.0, ended - part.started)


def _at(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)
