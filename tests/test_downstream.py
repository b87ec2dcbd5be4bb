"""docs/downstream.md does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dsnet
from dsnet.inference.export import export
from tests.pipeline.predict.test_predict import files, model, predicted

PAGE = Path(__file__).parents[1] / "docs" / "downstream.md"
__all__ = ["files", "model"]  # fixtures


@pytest.mark.parametrize("budget", ["0.4", "0.9"])
def test_the_page_s_program_answers_as_dsnet_predict(
    model: dsnet.DSNet, files: list[Path], tmp_path: Path, budget: str
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "classify.py").write_text(program)
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate([(30, 20), (17, 41), (64, 64), (5, 6)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    paths = [*files, *sorted(tmp_path.glob("*.png"))]
    export(model, tmp_path / "model.onnx")
    command = [sys.executable, tmp_path / "classify.py", tmp_path / "model.onnx", budget, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = predicted(dsnet.save(model, tmp_path / "model"), paths, budget)
    assert len({each["madds"] for each in expected}) > 1
    assert done.stdout.splitlines() == [f"{e['path']} {e['class']} {e['madds']}" for e in expected]
    if budget == "0.9":  # and one that no route costs is refused, as it is there
        command[3] = "7"
        refused = subprocess.run(command, capture_output=True, text=True)
        assert refused.returncode != 0 and refused.stdout == ""
        assert re.fullmatch(r"BUDGET: expected 0\.\d+ to 1, found 7\n", refused.stderr)
