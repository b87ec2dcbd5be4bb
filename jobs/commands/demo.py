"""dsnet demo: train on handwritten digits, then use what was registered."""

from pathlib import Path

import click

from jobs.commands.predict import print_predictions
from jobs.commands.run import print_result
from jobs.output import working

CONFIG = Path(__file__).parents[1] / "configs" / "digits.yaml"
PICTURES = 8


@click.command("demo")
def command() -> None:
    """Run jobs/configs/digits.yaml, then classify a few scans that were not trained on.

    \b
    Examples:
      dsnet demo
      DSNET_HOME=/tmp/try dsnet demo
    """
    with working():
        from pipeline import chain
        from pipeline.config import home, load_config
        from pipeline.predict.model import open_runner
        from pipeline.predict.stream import predict

        result = chain.run(load_config(CONFIG))
        model = f"models:/{result.version.name}"
        pictures = [str(path) for path in write_pictures(home() / "demo")]
        with open_runner(model) as (runner, budget):
            predictions = [row for rows in predict(runner, pictures, budget) for row in rows]
    print_predictions(predictions, title=f"{model} on scans it was not trained on")
    print_result(result)


def write_pictures(folder: Path) -> list[Path]:
    """The first scans of the test split as PNG files, named by what they show."""
    from PIL import Image

    from pipeline.data.sources import open_source

    folder.mkdir(parents=True, exist_ok=True)
    source = open_source("digits", "test")
    paths = []
    for index in range(PICTURES):
        sample = source[index]
        path = folder / f"scan-{index}-shows-{source.classes[sample.label]}.png"
        assert not isinstance(sample.image, bytes)
        Image.fromarray(sample.image).save(path)
        paths.append(path)
    return paths
