"""dsnet predict: classify image files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from jobs.output import print_json, print_table, working

if TYPE_CHECKING:
    from pipeline.predict import Prediction


@click.command("predict")
@click.argument("model", metavar="MODEL")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--budget",
    metavar="TARGET",
    help="Multiply-adds to spend on average: a fraction of the widest routable sub-network's (0.5) "
    "or a count (200M); left out: the target of MODEL's alias, else as the model was tuned.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(model: str, images: tuple[str, ...], budget: str | None, as_json: bool) -> None:
    """Classify image files with MODEL, a models:/ URI or a model directory.

    Any format and mode that Pillow reads: PNG, JPEG and others, grey, colour or transparent.

    \b
    Examples:
      dsnet predict models:/digits@champion three.png
      dsnet predict models:/digits@target-50pct three.png
      dsnet predict ./pulled *.jpg --budget 0.5 --json
    """
    from pipeline.predict import open_model, predict

    with working():
        predictions = predict(open_model(model, budget), images)
    if as_json:
        print_json([prediction.as_dict() for prediction in predictions])
        return
    print_predictions(predictions)


def print_predictions(predictions: "Sequence[Prediction]", title: str = "") -> None:
    """What the model says of each image, as a table."""
    rows = [
        (p.path, p.name or p.label, f"{p.confidence:.1%}", p.width, p.madds) for p in predictions
    ]
    print_table(("image", "class", "confidence", "width", "multiply-adds"), rows, title)
