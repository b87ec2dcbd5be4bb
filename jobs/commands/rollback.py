"""dsnet rollback: back to the champion before this one."""

import click

from jobs.output import working


@click.command("rollback")
@click.argument("name", metavar="NAME")
def command(name: str) -> None:
    """Make the version with the alias previous the champion of the model NAME again.

    One step: the alias previous then names no version, until the next promotion.

    \b
    Examples:
      dsnet rollback digits
    """
    with working():
        from pipeline.runner.promotion import rollback
        from pipeline.store import tracking

        tracking.configure()
        line = rollback(name)
    click.echo(line)
