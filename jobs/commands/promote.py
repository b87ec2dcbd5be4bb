"""dsnet promote: the champion, by hand."""

import click

from jobs.output import working


@click.command("promote")
@click.argument("name", metavar="NAME")
@click.argument("version", metavar="VERSION", type=click.IntRange(min=1))
@click.option(
    "--target",
    metavar="TARGET",
    help="Give it the alias of this target (0.5: target-50pct) and leave the champion as it is.",
)
def command(name: str, version: int, target: str | None) -> None:
    """Make VERSION the champion of the model NAME, whatever the rule for promotion says.

    models:/NAME and models:/NAME@champion then mean this version. The champion before it keeps the
    alias previous, and dsnet rollback NAME goes back to it.

    \b
    Examples:
      dsnet promote digits 3
      dsnet promote digits 3 --target 0.5
    """
    with working():
        from dsnet.routing.target import parse_target
        from pipeline.runner.promotion import promote
        from pipeline.store import tracking

        tracking.configure()
        line = promote(name, version, None if target is None else parse_target(target))
    click.echo(line)
