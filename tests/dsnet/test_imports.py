"""dsnet stands on torch, numpy and safetensors alone."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import dsnet

ROOT = Path(dsnet.__file__).parent
ALLOWED = {"dsnet", "torch", "numpy", "safetensors", *sys.stdlib_module_names}
# Imported where it is used, by those who asked for it: `pip install .[export]`.
OPTIONAL = {"onnx", "onnxruntime"}
# For those who have pictures that are not decoded, and for MLflow, which calls it.
MORE = {"runtime/pictures.py": {"PIL"}, "pyfunc.py": {"mlflow", "pandas"}}


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names.add((node.module or "").split(".")[0])
    return names


def test_no_file_names_anything_else() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        more = MORE.get(file.relative_to(ROOT).as_posix(), set())
        assert imported(ast.parse(file.read_text())) <= ALLOWED | OPTIONAL | more, file


def test_importing_it_loads_nothing_else_of_the_stack() -> None:
    program = (
        "import sys, dsnet; [getattr(dsnet, name) for name in dsnet.__all__];"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "torch" in loaded
    others = "ray ffcv mlflow pipeline jobs torchvision pyarrow sklearn onnx onnxruntime click rich"
    assert not set(others.split()) & set(loaded)


def test_what_runs_a_model_in_onnx_runtime_loads_no_torch() -> None:
    program = (
        "import sys, dsnet.pyfunc, dsnet.runtime.exported; assert 'torch' not in sys.modules;"
        "assert dsnet.InputError and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_works_where_nothing_else_is_installed() -> None:
    """Everything but torch, numpy, safetensors and what these need is hidden from the import."""
    program = f"""
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(HIDDEN)!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import torch, dsnet
model = dsnet.create_model("ds_mbnet_digits").eval()
print(tuple(model(torch.zeros(2, 3, 8, 8)).shape))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "(2, 10)\n"


HIDDEN = {
    "click",
    "ffcv",
    "jobs",
    "mlflow",
    "numba",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "PIL",
    "pipeline",
    "psutil",
    "pyarrow",
    "pydantic",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "torchvision",
    "yaml",
}


def test_the_package_says_its_version() -> None:
    import dsnet

    assert dsnet.__version__ == importlib.metadata.version("dsnet")


@pytest.mark.parametrize("floor", ["dsnet", "pipeline"])
def test_a_floor_has_few_enough_rooms_to_be_seen_at_a_glance(floor: str) -> None:
    kept = {path.name for path in (ROOT.parent / floor).iterdir()} - {"__init__.py", "__pycache__"}
    assert len(kept) <= 12, sorted(kept)
