"""The examples do what their first lines say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dsnet
from dsnet import Metadata

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


def test_a_registered_model_is_used_without_ray(tmp_path: Path) -> None:
    classes = tuple(f"digit {i}" for i in range(10))
    metadata = Metadata(resolution=8, classes=classes)
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    dsnet.save(model, tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    (line,) = run("registered_model.py", tmp_path / "model", tmp_path / "scan.png")
    widest = model.madds(model.space.routes[-1])
    assert re.fullmatch(rf".*scan\.png: digit \d \([\d.]+%\), width 3, {widest:,} MAdds", line)
