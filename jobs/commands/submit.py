"""dsnet submit: a chain or a sweep as a job on a Ray cluster."""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from jobs.commands.jobs import address_flag, write_out
from jobs.commands.run import force_flag
from jobs.commands.sweep import parse_targets, targets_flag
from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import program, working
from pipeline.cluster.interrupts import stopped_by
from pipeline.runner.force import Force

if TYPE_CHECKING:
    from pipeline.config import Config


@click.group("submit", no_args_is_help=False)
def command() -> None:
    """Run a command on a Ray cluster, as a Ray job.

    \b
    Examples:
      dsnet submit run --config jobs/configs/digits.yaml --address http://127.0.0.1:8265 --follow
    """


def job_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every job: --address, --follow and --pip."""
    click.option("--follow", is_flag=True, help="Print the job's logs, and end with its status.")(
        function
    )
    click.option(
        "--pip",
        is_flag=True,
        help="On a cluster that lacks the packages: Ray installs what requirements.lock pins on "
        "each node, 7 GB, before the job's first process there. docs/cluster.md says what the "
        "nodes need for it.",
    )(function)
    return address_flag(required=True)(function)


@command.command("run", cls=ConfigCommand)
@job_flags
@config_flags
@force_flag
@click.pass_context
def run(
    ctx: click.Context,
    /,
    config_file: str,
    address: str,
    follow: bool,
    pip: bool,
    forced: tuple[str, ...],
    **flags: str | None,
) -> None:
    """Run the whole chain of a configuration on a cluster.

    The code here and the configuration travel with the job, data do not: paths in the
    configuration are the cluster's. Its nodes have the packages of requirements.lock, or install
    them with --pip. DSNET_HOME, MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are passed on
    where they are set; tokens and passwords are not, since everyone who sees the job could read
    them: set those on the nodes. The cluster's own token is read from RAY_AUTH_TOKEN, the file in
    RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.

    \b
    Examples:
      dsnet submit run --config jobs/configs/digits.yaml --address http://127.0.0.1:8265 --follow
      dsnet submit run --config mine.yaml --address https://ray.example.org --cluster.workers 8
    """
    words = ["run", *(word for stage in Force.of(forced).stages for word in ("--force", stage))]
    ctx.exit(_submit(address, follow, pip, words, configuration(config_file, flags)))


@command.command("sweep", cls=ConfigCommand)
@job_flags
@config_flags
@targets_flag
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    config_file: str,
    address: str,
    follow: bool,
    pip: bool,
    targets: str,
    **flags: str | None,
) -> None:
    """Run a sweep over targets on a cluster. What travels with it: see dsnet submit run --help.

    \b
    Examples:
      dsnet submit sweep --config FILE --targets 0.3,0.5,200M --address http://127.0.0.1:8265
    """
    parse_targets(targets)
    words = ["sweep", "--targets", targets]
    ctx.exit(_submit(address, follow, pip, words, configuration(config_file, flags)))


def _submit(address: str, follow: bool, pip: bool, words: list[str], config: "Config") -> int:
    """Submit `dsnet WORDS` with the configuration; the exit status of this command."""
    with working():
        from jobs import submit
        from jobs.ray_jobs import for_people

        client = submit.connect(address)
        job = submit.submit(client, words, config, pip=pip)
    jobs = f"{program('dsnet')} jobs {{}} {job} --address {client.get_address()}"
    click.echo(
        f"submitted {job}\n"
        f"  status  {jobs.format('status')}\n"
        f"  logs    {jobs.format('logs')} --follow\n"
        f"  stop    {jobs.format('stop')}",
        err=True,
    )
    if not follow:
        click.echo(job)
        return 0
    try:
        details = submit.follow(client, job, for_people(write_out))
    except KeyboardInterrupt:
        click.echo(f"\n{job} goes on without you; {jobs.format('stop')} stops it", err=True)
        return 128 + (stopped_by() or signal.SIGINT)
    status = submit.exit_status(details)
    # Ray repeats the end of the logs in its message; they have just been printed.
    reason = f": {str(details.message).partition(', last available logs')[0]}" if status else ""
    click.echo(f"{job} {details.status}{reason}", err=True)
    return status
