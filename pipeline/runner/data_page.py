"""What a chain trains on, among the files of its run, before hours are spent on it."""

from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.store.tracking import Run

PAGE = "data.html"


def log_data(config: Config, dataset: Dataset, run: Run) -> None:
    """Log the page of both betons, as `dsnet inspect` writes it."""
    from pipeline.report.data_page import render_data  # it brings FFCV and Numba

    page = render_data(
        [dataset.train, dataset.test],
        recipe=config.data.recipe,
        resolution=config.data.resolution,
        seed=config.seed,
    )
    run.text(page, PAGE)
