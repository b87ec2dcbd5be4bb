"""What is private to others is used in one module for each, which an upgrade breaks by name."""

import ast
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


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_that_does_not_grow_has_no_limits() -> None:
    assert ray_private.autoscaling_limits() == {}
