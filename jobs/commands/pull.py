"""dsnet pull: a registered model into a folder."""

from pathlib import Path

import click

from jobs.output import json_flag, print_path, working


@click.command("pull")
@click.argument("model_uri", metavar="MODEL_URI")
@click.argument("directory", metavar="DIR")
@json_flag
def command(model_uri: str, directory: str, as_json: bool) -> None:
    """Copy the registered model MODEL_URI into the folder DIR.

    DIR then holds weights.safetensors, model.json and their SHA256SUMS, and nothing executable;
    `dsnet.load(DIR)` reads it where only torch, numpy and safetensors are installed. MODEL_URI is
    models:/NAME/VERSION, models:/NAME@ALIAS or models:/NAME, which is the champion. By a target's
    alias the folder runs at that target, its ONNX file too; else as the version was tuned. Either
    way `dsnet.load(DIR, budget=...)` takes another.

    \b
    Examples:
      dsnet pull models:/digits@champion ./digits
      dsnet pull models:/digits@target-30pct ./digits-30pct
      dsnet pull models:/digits/3 ./digits-3
    """
    from pipeline.store import registry, tracking

    with working():
        tracking.configure(make=False)
        path = registry.pull(model_uri, Path(directory))
        click.echo(f"{path} {_runs_at(path)}", err=True)
    print_path(path, as_json)


def _runs_at(directory: Path) -> str:
    """What the model in `directory` does without a budget, in words."""
    import dsnet
    from dsnet.io.weights import runs_at

    model = dsnet.load(directory)
    facts = runs_at(model)
    average, share = facts["average_madds"], facts["share"]
    if average is None:
        return "runs as its gates choose" if facts["gates_trained"] else "has no gate to choose by"
    spent = f"{average:,.0f} multiply-adds per image ({share:.1%} of the widest)"
    if not facts["gates_trained"]:
        return f"has gates that are not trained: it runs at {spent}"
    return f"runs at {spent} on average over held-out images"
