"""dsnet doctor: what this machine or a cluster has, and what to do about what it lacks."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobs.commands.jobs import write_out
from jobs.output import json_flag, print_json, working

if TYPE_CHECKING:
    from jobs.doctor import Part

COLORS = {"ok": "green", "warning": "yellow", "missing": "red"}


@click.command("doctor")
@click.option(
    "--nodes",
    is_flag=True,
    help="Then every node of the Ray cluster in RAY_ADDRESS, which this process joins.",
)
@click.option(
    "--address",
    metavar="URL",
    help="The same from outside, by Ray's dashboard: a job there examines its head and every node.",
)
@json_flag
@click.pass_context
def command(ctx: click.Context, nodes: bool, address: str | None, as_json: bool) -> None:
    """Check each part that the pipeline needs: its version, its state, and what to do.

    Of a cluster every node is asked whether it has the same Python and packages, sees DSNET_HOME,
    has space there and the GPUs that Ray counts, and how NCCL is told to reach other nodes.
    Exit status 1 if something that is needed is missing.

    \b
    Examples:
      dsnet doctor
      MLFLOW_TRACKING_URI=http://mlflow:5000 dsnet doctor --json
      dsnet doctor --address http://127.0.0.1:8265
      RAY_ADDRESS=auto dsnet doctor --nodes
    """
    if address is not None:
        ctx.exit(_there(address, as_json))
    from jobs.doctor import examine

    parts = _shown(examine(), as_json)
    if nodes:
        parts += _shown(_of_cluster(), as_json)
    healthy = all(part.state != "missing" for part in parts)
    if as_json:
        print_json({"ok": healthy, "parts": [{"name": part.name} | asdict(part) for part in parts]})
    ctx.exit(0 if healthy else 1)


def _shown(examined: "Iterator[Part]", as_json: bool) -> "list[Part]":
    """All of them, each printed as it is found."""
    parts: list[Part] = []
    while True:
        with working():
            part = next(examined, None)
        if part is None:
            return parts
        parts.append(part)
        if not as_json:
            # Plain text, at once: no package but click itself needs to be there.
            state = click.style(f"{part.state:8}", fg=COLORS[part.state])
            click.echo(f"{state} {part.name:13} {part.version:12} {part.detail}")
            if part.advice:
                click.echo(f"{'':9}{'':13} {'':12} {part.advice}")


def _of_cluster() -> "Iterator[Part]":
    import ray

    from jobs.doctor_nodes import examine_nodes
    from pipeline.cluster import ray_cluster

    ray_cluster.join(os.environ.get("RAY_ADDRESS", "auto"))
    try:
        yield from examine_nodes()
    finally:
        ray.shutdown()


def _there(address: str, as_json: bool) -> int:
    """By a job on that cluster; the exit status."""
    from jobs import submit

    with working():
        client = submit.connect(address)
        job = submit.submit(client, ["doctor", "--nodes", *["--json"] * as_json])
    told: list[str] = []
    details = submit.follow(client, job, told.append if as_json else write_out)
    if as_json:
        print_json(_document("".join(told)))
    return 0 if details.status == "SUCCEEDED" else 1


def _document(log: str) -> Any:
    """The JSON document in a job's log, among the lines of Ray's own."""
    found, _ = json.JSONDecoder().raw_decode(log, log.index("{\n"))
    return found
