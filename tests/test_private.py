"""What is private to others is used in one module for each, which an upgrade breaks by name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import ray_private

ROOT = Path(__file__).parents[1]
HOMES = {"ray": "pipeline/cluster/ray_private.py", "ffcv": "pipeline/data/ffcv.py"}
OTHERS = ("ray", "ffcv", "mlflow", "numba", "onnx", "onnxruntime", "optuna", "torchvision")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every name that a module imports, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private(name: str) -> bool:
    """Whether an imported name is private to one of the others."""
    package, *parts = name.split(".")
    return package in OTHERS and any(part.startswith("_") for part in parts)


@pytest.mark.parametrize("floor", ["dsnet", "pipeline", "jobs"])
def test_a_private_interface_is_used_in_its_home_alone(floor: str) -> None:
    strays = []
    for path in sorted((ROOT / floor).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        strays += [
            f"{place}: {name}"
            for name in imported(ast.parse(path.read_text()))
            if private(name) and HOMES.get(name.split(".")[0]) != place
        ]
    assert strays == []


def test_a_picture_is_opened_in_one_place_and_as_one_of_the_formats_that_are_wanted() -> None:
    """Given none, Pillow tries every format that it knows, some by running other programs."""
    ours = [
        path for floor in ("dsnet", "pipeline", "jobs") for path in (ROOT / floor).rglob("*.py")
    ]
    shown = [*(ROOT / "examples").glob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    calls = [
        (path.relative_to(ROOT).as_posix(), "formats=" in line)
        for path in ours + shown
        for line in path.read_text().splitlines()
        if re.search(r"\bImage\.open\(|\bimread\(|ImageFile\.Parser\(", line)
    ]
    assert [place for place, _ in calls if not place.startswith("docs/")] == [
        "dsnet/runtime/pictures.py"
    ]
    assert all(formats for _, formats in calls)


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_that_does_not_grow_has_no_limits() -> None:
    assert ray_private.autoscaling_limits() == {}
