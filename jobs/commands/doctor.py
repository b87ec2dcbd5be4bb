"""dsnet doctor: what this machine has, and what to do about what it lacks."""

from dataclasses import asdict

import click

from jobs.output import print_json, working

COLORS = {"ok": "green", "warning": "yellow", "missing": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check each part that the pipeline needs: its version, its state, and what to do.

    Exit status 1 if something that is needed is missing.

    \b
    Examples:
      dsnet doctor
      MLFLOW_TRACKING_URI=http://mlflow:5000 dsnet doctor --json
    """
    from jobs.doctor import examine

    parts = []
    examined = examine()
    while True:
        with working():
            part = next(examined, None)
        if part is None:
            break
        parts.append(part)
        if not as_json:
            # Plain text, at once: no package but click itself needs to be there.
            state = click.style(f"{part.state:8}", fg=COLORS[part.state])
            click.echo(f"{state} {part.name:13} {part.version:12} {part.detail}")
            if part.advice:
                click.echo(f"{'':9}{'':13} {'':12} {part.advice}")
    healthy = all(part.state != "missing" for part in parts)
    if as_json:
        print_json({"ok": healthy, "parts": [{"name": part.name} | asdict(part) for part in parts]})
    ctx.exit(0 if healthy else 1)
