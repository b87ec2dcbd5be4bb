"""The examples do what their first lines say."""

import copy
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import dsnet
from tests.pipeline.predict.test_predict import model, predicted
from tests.test_downstream import odd_pictures

__all__ = ["model"]  # a fixture
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: object) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_a_network_and_its_gate_are_trained_in_plain_torch() -> None:
    *static, dynamic = run("plain_torch.py", 4)
    accuracies = [float(re.findall(r"([\d.]+)%", line)[0]) for line in (*static, dynamic)]
    costs = [int(re.findall(r"([\d,]+) mult", line)[0].replace(",", "")) for line in static]
    average = int(re.findall(r"([\d,]+) mult", dynamic)[0].replace(",", ""))
    assert min(accuracies) > 80, "ten classes: chance is 10%"
    assert len(static) == 4 and costs == sorted(costs)
    assert abs(average / costs[-1] - 0.5) < 0.15


def test_a_registered_model_is_used_without_ray_and_answers_as_dsnet_predict(
    model: dsnet.DSNet, tmp_path: Path
) -> None:
    """On every kind of picture, those of the model's size, of which it sees the middle, too."""
    model = copy.deepcopy(model)
    model.metadata = replace(model.metadata, crop=0.75)
    directory = dsnet.save(model, tmp_path / "model")
    paths = odd_pictures(tmp_path / "odd")
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "eight.png")
    Image.fromarray(pixels.astype(np.uint16)[..., 0] * 255).save(tmp_path / "sixteen.png")
    paths += [tmp_path / "eight.png", tmp_path / "sixteen.png"]
    lines = run("registered_model.py", directory, *paths, "--budget", "0.6")
    assert lines == [
        f"{row['path']}: {row['class']} ({row['confidence']:.1%}), width {row['width']}, "
        f"{row['madds']:,} MAdds"
        for row in predicted(directory, paths, "0.6", "torch")
    ]
