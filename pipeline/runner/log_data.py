"""What a chain or a sweep reads, told in its run before hours are spent on it."""

from pathlib import Path

from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.store.tracking import Run

PAGE = "data.html"


def log_data(config: Config, dataset: Dataset, run: Run) -> None:
    """Log both betons as the run's inputs, and their page as `dsnet inspect` writes it."""
    from pipeline.report.data_page import render_data  # it brings FFCV and Numba

    manifests = {"training": dataset.train, "evaluation": dataset.test}
    for context, manifest in manifests.items():
        name = f"{Path(manifest.source).name} {manifest.split}"
        counts = {"pictures": manifest.samples, "classes": len(manifest.classes)}
        run.reads(context, name, manifest.digest, manifest.source, counts)
    page = render_data(
        [*manifests.values()],
        recipe=config.data.recipe,
        resolution=config.data.resolution,
        seed=config.seed,
    )
    run.text(page, PAGE)
