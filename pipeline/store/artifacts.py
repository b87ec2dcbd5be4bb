"""Folders of artifacts: what is in them, and one file of them."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.store import environment  # noqa: F401  before MLflow

# isort: split
from mlflow.artifacts import download_artifacts, list_artifacts

from pipeline.store.connection import uri
from pipeline.store.outage import ask


def names(source: str) -> set[str]:
    """Names of what is in a folder of artifacts; empty if it is not there."""
    return {name for name, _, _ in _list(source)}


def files(source: str) -> dict[str, int]:
    """Every file in a folder of artifacts and below, by path in it, and its size in bytes."""
    found: dict[str, int] = {}
    for name, is_folder, size in _list(source):
        if is_folder:
            found |= {f"{name}/{path}": n for path, n in files(f"{source}/{name}").items()}
        else:
            found[name] = size
    return found


def download(source: str, name: str, folder: Path) -> None:
    """One file of a folder of artifacts into `folder`."""
    ask(
        uri(),
        lambda: download_artifacts(
            artifact_uri=f"{source}/{name}", dst_path=str(folder), tracking_uri=uri()
        ),
    )


def _list(source: str) -> Iterator[tuple[str, bool, int]]:
    """Name, whether it is a folder, and size of everything directly in `source`."""
    found = ask(uri(), lambda: list_artifacts(artifact_uri=source, tracking_uri=uri()))
    for each in found:
        yield PurePosixPath(each.path).name, each.is_dir, each.file_size or 0
