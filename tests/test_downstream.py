"""docs/downstream.md does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import dsnet
from dsnet.inference.export import export
from tests.pipeline.predict.test_predict import files, model, predicted

PAGE = Path(__file__).parents[1] / "docs" / "downstream.md"
__all__ = ["files", "model"]  # fixtures


def odd_pictures(folder: Path) -> list[Path]:
    """Of several sizes and all kinds that are read."""
    folder.mkdir()
    random = np.random.default_rng(0)
    shapes = [(30, 20), (17, 41), (64, 64), (5, 6)]
    plain, *others = (random.integers(0, 256, (*shape, 4), dtype=np.uint8) for shape in shapes)
    colours = Image.fromarray(plain[..., :3])
    for index, each in enumerate((plain, *others)):
        Image.fromarray(each[..., :3]).save(folder / f"{index}.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        colours.save(folder / f"turned{orientation}.jpg", exif=exif)
    palette = colours.convert("P")
    for name, picture in {
        "glass": Image.fromarray(plain),
        "grey": colours.convert("L"),
        "misty": Image.fromarray(plain[..., 2:]),
        "ink": colours.convert("1"),
        "palette": palette,
    }.items():
        picture.save(folder / f"{name}.png")
    palette.save(folder / "clear.png", transparency=int(palette.getpixel((0, 0))))
    palette.save(folder / "clear.gif", transparency=int(palette.getpixel((0, 0))))
    colours.convert("CMYK").save(folder / "cmyk.jpg")
    for kind in ("gif", "webp", "png", "tiff"):
        next_frames = [Image.fromarray(255 - plain[..., :3])]
        colours.save(folder / f"frames.{kind}", save_all=True, append_images=next_frames)
    (folder / "deep.png").write_bytes(cv2.imencode(".png", plain.astype(np.uint16) * 257)[1])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("budget", ["0.4", "0.9"])
def test_the_page_s_program_answers_as_dsnet_predict(
    model: dsnet.DSNet, files: list[Path], tmp_path: Path, budget: str
) -> None:
    """On every kind of picture; what it does not read it refuses by name."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "classify.py").write_text(program)
    paths = [*files, *odd_pictures(tmp_path / "odd")]
    export(model, tmp_path / "model.onnx")
    sixteen = tmp_path / "sixteen.png"
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(sixteen)
    sixteen = tmp_path / "sixteen.png"
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(sixteen)
    command = [sys.executable, tmp_path / "classify.py", tmp_path / "model.onnx", budget, *paths]
    done = subprocess.run([*command, sixteen], capture_output=True, text=True)
    assert done.stderr.endswith(
        f"{sixteen}: expected 8 bits a channel, found I;16; convert it first\n"
    )
    assert done.returncode == 1
    expected = predicted(dsnet.save(model, tmp_path / "model"), paths, budget)
    assert len({each["madds"] for each in expected}) > 1
    assert done.stdout.splitlines() == [f"{e['path']} {e['class']} {e['madds']}" for e in expected]
    if budget == "0.9":  # and one that no route costs is refused, as it is there
        command[3] = "7"
        refused = subprocess.run(command, capture_output=True, text=True)
        assert refused.returncode != 0 and refused.stdout == ""
        assert re.fullmatch(r"BUDGET: expected 0\.\d+ to 1, found 7\n", refused.stderr)
