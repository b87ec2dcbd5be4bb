"""docs/downstream.md does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dsnet
from dsnet.inference.export import export
from dsnet.routing.tuned import at_budget
from pipeline.predict import predict
from tests.pipeline.test_predict import files, model

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
    with torch.inference_mode():
        expected = predict(at_budget(model, [], budget), paths)
    assert len({each.madds for each in expected}) > 1
    assert done.stdout.splitlines() == [f"{e.path} {e.name} {e.madds}" for e in expected]
