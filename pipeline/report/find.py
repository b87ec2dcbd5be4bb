"""The report of whatever has one: a sweep, what it has registered, an evaluated version."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dsnet
from dsnet.errors import InputError
from pipeline.report.evaluation_page import render_evaluation
from pipeline.report.page import render, write_html
from pipeline.report.results import read_results
from pipeline.store.version import EVALUATE_RUN
from pipeline.training.evaluation import BY_CLASS

if TYPE_CHECKING:
    from pipeline.store.version import Version

REPORT, FRONTIER = "report.html", "frontier.parquet"


def find_report(source: str, out: Path) -> None:
    """Write the report of a models:/ URI, a model directory, or a sweep's folder or Parquet file.

    A version's is its sweep's, or of what was counted of it on the test images. Raises InputError
    if `source` has none.
    """
    if source.startswith("models:"):
        from pipeline.store import registry, tracking  # MLflow takes seconds to import

        tracking.configure()
        with tempfile.TemporaryDirectory() as folder:
            version = registry.resolve(source)
            model = registry.pull(version.uri, Path(folder, "model"))
            if (model / REPORT).is_file() or "evaluation" not in version.tags:
                _from_folder(model, source, out)
            else:
                page = render_evaluation(version, dsnet.load(model), _figures(version, folder))
                write_html(page, out)
        return
    path = Path(source)
    file = path if path.is_file() else path / FRONTIER
    if file.is_file():
        write_html(render(read_results(file)), out)
    else:
        _from_folder(path, source, out)


def _figures(version: "Version", folder: str) -> dict[str, Any]:
    """What was counted class by class, by network; empty where it was not."""
    from pipeline.store import tracking

    run = version.tags.get(EVALUATE_RUN)
    file = tracking.artifact_of(run, BY_CLASS, Path(folder)) if run else None
    return json.loads(file.read_text()) if file else {}


def _from_folder(folder: Path, source: str, out: Path) -> None:
    page = folder / REPORT
    if not page.is_file():
        raise InputError(
            f"{source}: expected a sweep's folder, a model that a sweep registered, or a version "
            f"that was measured on test images, found no {REPORT} and no {FRONTIER} in it; make "
            "one with dsnet sweep or dsnet run"
        )
    write_html(page.read_text(encoding="utf-8"), out)
