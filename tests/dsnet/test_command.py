"""The `dsnet` program says what it needs where only `import dsnet` was installed for."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dsnet

ROOT = Path(dsnet.__file__).parents[1]
HIDDEN = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv = ["dsnet", "promote", "digits", "1"]
from dsnet.command import main
main()
"""


@pytest.mark.parametrize("missing", ["click", "mlflow"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(missing: str) -> None:
    run = [sys.executable, "-c", HIDDEN.format(missing=missing)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dsnet: {missing} is not installed")
    assert "pip install -e '.[pipeline,export]'" in line


def test_a_missing_module_of_our_own_is_a_bug_with_a_traceback() -> None:
    run = [sys.executable, "-c", HIDDEN.format(missing="pipeline")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_wheel_holds_dsnet_alone_and_its_command_says_so(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build writes beside what it builds
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("dsnet", "pipeline", "jobs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as it; it.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    assert {path.name for path in site.iterdir()} == {"dsnet", f"{wheel.stem[:11]}.dist-info"}
    here, there = (
        {path.relative_to(folder) for path in (folder / "dsnet").rglob("*.py")}
        for folder in (ROOT, site)
    )
    assert here == there
    assert (site / "dsnet" / "py.typed").is_file()

    done = subprocess.run(
        [sys.executable, "-c", "from dsnet.command import main; main()"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "holds the Python package alone" in line and "make setup" in line
