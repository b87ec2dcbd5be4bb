"""dsnet submit: a chain as a job on a Ray cluster."""

import sys

import click

from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import program, working


@click.group("submit", no_args_is_help=False)
def command() -> None:
    """Run a command on a Ray cluster, as a Ray job.

    \b
    Examples:
      dsnet submit run --config jobs/configs/digits.yaml --address http://127.0.0.1:8265 --follow
    """


@command.command("run", cls=ConfigCommand)
@click.option(
    "--address",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    metavar="URL",
    help="Ray's dashboard on the cluster's head node.",
)
@click.option("--follow", is_flag=True, help="Print the job's logs, and end with its status.")
@config_flags
@click.pass_context
def run(
    ctx: click.Context, /, config_file: str, address: str, follow: bool, **flags: str | None
) -> None:
    """Run the whole chain of a configuration on a cluster.

    The code here and the configuration travel with the job; data and Python environment do not:
    paths in the configuration are the cluster's, and its nodes need the packages of
    requirements.lock. DSNET_HOME, MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are passed on
    where they are set; tokens and passwords are not, since everyone who sees the job could read
    them: set those on the nodes. The cluster's own token is read from RAY_AUTH_TOKEN, the file in
    RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.

    \b
    Examples:
      dsnet submit run --config jobs/configs/digits.yaml --address http://127.0.0.1:8265 --follow
      dsnet submit run --config mine.yaml --address https://ray.example.org --cluster.workers 8
    """
    config = configuration(config_file, flags)
    with working():
        from jobs import submit

        client = submit.connect(address)
        job = submit.submit(client, "run", config)
    # Ray's own command finds the token only in this mode, which a cluster without one ignores.
    ray = f"RAY_AUTH_MODE=token {program('ray')} job {{}} --address {client.get_address()} {job}"
    click.echo(
        f"submitted {job}\n"
        f"  logs    {ray.format('logs --follow')}\n"
        f"  status  {ray.format('status')}\n"
        f"  stop    {ray.format('stop')}",
        err=True,
    )
    if not follow:
        click.echo(job)
        return
    try:
        details = submit.follow(client, job, _write)
    except KeyboardInterrupt:
        click.echo(f"\n{job} goes on without you; {ray.format('stop')} stops it", err=True)
        ctx.exit(130)
    status = submit.exit_status(details)
    # Ray repeats the end of the logs in its message; they have just been printed.
    reason = f": {str(details.message).partition(', last available logs')[0]}" if status else ""
    click.echo(f"{job} {details.status}{reason}", err=True)
    ctx.exit(status)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
