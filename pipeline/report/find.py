"""The report of whatever has one: a registered model, a model directory, a sweep."""

import tempfile
from pathlib import Path

from dsnet.errors import InputError
from dsnet.files import atomic_file
from pipeline.report.page import write_page
from pipeline.report.results import read_results

REPORT, FRONTIER = "report.html", "frontier.parquet"


def find_report(source: str, out: Path) -> None:
    """Write the report of a models:/ URI, a model directory, or a sweep's folder or Parquet file.

    Raises InputError if `source` has none.
    """
    if source.startswith("models:"):
        from pipeline.store import registry, tracking  # MLflow takes seconds to import

        tracking.configure()
        with tempfile.TemporaryDirectory() as folder:
            version = registry.resolve(source)
            _from_folder(registry.pull(version.uri, Path(folder, "model")), source, out)
        return
    path = Path(source)
    if path.is_file():
        write_page(read_results(path), out)
    elif (path / FRONTIER).is_file():
        write_page(read_results(path / FRONTIER), out)
    else:
        _from_folder(path, source, out)


def _from_folder(folder: Path, source: str, out: Path) -> None:
    page = folder / REPORT
    if not page.is_file():
        raise InputError(
            f"{source}: expected a model that a sweep registered or a sweep's folder, found no "
            f"{REPORT} and no {FRONTIER} in it; make one with dsnet sweep"
        )
    with atomic_file(out) as temporary:
        temporary.write_bytes(page.read_bytes())
