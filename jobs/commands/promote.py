"""dsnet promote: the champion, by hand."""

import click

from jobs.output import working


@click.command("promote")
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION", type=click.IntRange(min=1))
def command(name: str, version: int) -> None:
    """Make VERSION the champion of the model NAME, whatever the rule for promotion says.

    models:/NAME and models:/NAME@champion then mean this version. The champion before it keeps the
    alias previous, and dsnet rollback NAME goes back to it.

    \b
    Examples:
      dsnet promote digits 3
    """
    with working():
        from pipeline.runner.promotion import promote
        from pipeline.store import tracking

        tracking.configure()
        line = promote(name, version)
    click.echo(line)
