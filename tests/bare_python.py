"""A Python with a few packages and what they need, and nothing else of this environment."""

import importlib.metadata
import os
import subprocess
import venv
from pathlib import Path

from packaging.requirements import Requirement


class BarePython:
    """A new virtual environment in `folder` that has `packages` alone, linked from this one."""

    def __init__(self, folder: Path, *packages: str) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self._python = folder / "bin" / "python"
        (site,) = (folder / "lib").glob("python*/site-packages")
        for name in _with_dependencies(packages):
            distribution = importlib.metadata.distribution(name)
            for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
                link = site / top
                if not link.exists():
                    link.symlink_to(distribution.locate_file(top))

    def run(self, program: str, **environment: str) -> str:
        """What `program` prints, with nothing of ours on its path and these variables set."""
        hidden = ("PYTHONPATH", "MLFLOW_", "DSNET_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        done = subprocess.run(
            [self._python, "-c", program],
            capture_output=True,
            text=True,
            env=kept | environment,
            cwd=self._python.parent,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _with_dependencies(packages: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    wanted = list(packages)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted.append(needed.name)
    return found
