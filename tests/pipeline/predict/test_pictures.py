"""Picture files in, picture files out, as `dsnet predict` makes them."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

import dsnet
from dsnet import InputError
from dsnet.inference.export import write_onnx
from dsnet.pyfunc import _load_pyfunc
from pipeline.predict.model import open_runner
from pipeline.predict.pictures import Restoration, psnr, restorations, restored
from pipeline.predict.source_picture import read
from tests.dsnet.inference.test_pictures_out import denoiser
from tests.pipeline.data.conftest import encoded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = dsnet.save(denoiser(), tmp_path_factory.mktemp("denoiser") / "model")
    write_onnx(dsnet.load(folder), folder)
    return folder


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A folder with two pictures, one below another folder, and a file that is none."""
    folder = tmp_path / "noisy"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("one.png", (47, 60)), ("more/two.jpg", (80, 33))):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def predict(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", "predict", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_file_becomes_a_file_of_its_size_and_a_reference_says_how_near(
    model: Path, noisy: Path, tmp_path: Path
) -> None:
    out, one = tmp_path / "clean.png", noisy / "one.png"
    done = predict(model, one, "--out", out, "--reference", one, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row.keys() == {"path", "out", "width", "widths", "madds", "psnr"}
    network = dsnet.load(model)
    assert row["widths"] == [row["width"]]
    assert row["madds"] == network.madds(row["width"], (47, 60))
    pixels = torch.from_numpy(np.array(Image.open(one)))[None]
    images = dsnet.normalize(pixels, network.metadata.mean, network.metadata.std)
    with torch.no_grad():
        expected = network(images)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0)
    clean = np.array(Image.open(out))
    # Sums in another order may round the other way.
    assert np.abs(clean - expected.numpy()).max() <= 1
    error = ((clean.astype(float) - pixels[0].numpy()) ** 2).mean()
    assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / error))


def test_a_folder_becomes_a_folder_and_what_is_no_picture_is_passed_over(
    model: Path, noisy: Path, tmp_path: Path
) -> None:
    done = predict(model, noisy, "--out", tmp_path / "clean", "--backend", "torch")
    assert done.returncode == 3
    assert "notes.txt" in done.stderr
    found = {
        str(path.relative_to(tmp_path / "clean")) for path in (tmp_path / "clean").rglob("*.*")
    }
    assert found == {"one.png", "more/two.png"}
    assert Image.open(tmp_path / "clean/more/two.png").size == (33, 80)


def cleaned(model: Path, files: Mapping[str, bytes], folder: Path, kind: str) -> None:
    """Written to a folder, and denoised to its folder `clean`."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    todo = [Restoration(str(folder / name), folder / "clean" / f"{name}.{kind}") for name in files]
    with open_runner(str(model)) as (runner, budget):
        assert len(list(restored(runner, todo, budget))) == len(files)


def test_a_clean_picture_keeps_what_the_noisy_one_has_beside_its_colours(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (30, 40, 4), np.uint8)
    grey, profile = colours[..., 0], ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6  # a quarter turn
    files = {
        "glass": encoded(colours, dpi=(300, 300), icc_profile=profile.tobytes()),
        "grey": encoded(grey),
        "misty": encoded(colours[..., [0, 3]]),
        "equal": encoded(grey[..., None].repeat(3, 2)),
        "turned": encoded(colours[..., :3], "JPEG", exif=exif, dpi=(96, 96)),
        "palette": encoded(Image.fromarray(grey, "L").convert("P"), transparency=7),
    }
    cleaned(model, files, tmp_path / "in", "png")
    assert "not kept" not in caplog.text
    clean = {name: Image.open(tmp_path / "in" / "clean" / f"{name}.png") for name in files}
    modes = [picture.mode for picture in clean.values()]
    assert modes == ["RGBA", "L", "LA", "RGB", "RGB", "RGBA"]
    assert np.array_equal(np.array(clean["glass"])[..., 3], colours[..., 3])
    assert np.array_equal(np.array(clean["misty"])[..., 1], colours[..., 3])
    assert clean["glass"].info["icc_profile"] == profile.tobytes()
    assert clean["glass"].info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert clean["turned"].info["dpi"] == pytest.approx((96, 96), abs=0.02)
    assert np.ptp(np.array(clean["equal"]), axis=2).max() == 0
    assert clean["turned"].size == ImageOps.exif_transpose(clean["turned"]).size == (30, 40)
    assert dict(clean["turned"].getexif()) == {0x010F: "Maker"}
    # What is under the transparency is denoised as it is stored, not mixed with white.
    source = read(files["glass"], "glass", Path("x.png"))
    assert np.array_equal(source.pixels, colours[..., :3])


def test_what_a_clean_picture_cannot_keep_is_named(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 2**16, (30, 40, 3), np.uint16)
    frames = [Image.fromarray(deep[..., 0]) for _ in range(5)]
    colours = (deep >> 8).astype(np.uint8)
    ink = Image.fromarray(colours).convert("CMYK")
    glass = Image.fromarray(colours)
    glass.putalpha(100)
    files = {
        "frames": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "deep": cv2.imencode(".png", deep)[1].tobytes(),
        "ink": encoded(ink, "JPEG", icc_profile=b"0" * 16 + b"CMYK" + b"0" * 108),
        "glass": encoded(glass),
    }
    cleaned(model, files, tmp_path / "in", "jpg")
    told = {
        Path(record.args[0]).name: record.getMessage().rpartition(": ")[2]
        for record in caplog.records
        if isinstance(record.args, tuple) and "not kept" in record.msg
    }
    assert told == {
        "frames": "16 bits a channel (written with 8), all frames but the first",
        "deep": "16 bits a channel (written with 8)",
        "ink": "its CMYK colours (written as RGB), its colour profile",
        "glass": "its transparency",
    }


def test_noise_that_it_was_not_trained_for_is_warned_of(
    model: Path, noisy: Path, tmp_path: Path
) -> None:
    """Trained for 5 to 50; evenly spread pixels look like 74 and more."""
    done = predict(model, noisy / "one.png", "--out", tmp_path / "clean.png")
    assert done.returncode == 0
    assert "looks like noise of level" in done.stderr and "levels 5 to 50" in done.stderr


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["one.png"], "expected --out"),
        (["one.png", "--out", "one.png"], "is read too"),
        (["one.png", "more/two.jpg", "--out", "clean.png"], "a folder for several"),
        (["one.png", "--out", "c.png", "--reference", "more/two.jpg"], "of 60 x 47 pixels"),
        (["small.png", "--out", "c.png"], "more than 21 pixels a side"),
    ],
)
def test_wrong_use_is_refused_in_a_line(
    model: Path, noisy: Path, args: list[str], problem: str
) -> None:
    Image.new("RGB", (60, 20)).save(noisy / "small.png")
    placed = [str(noisy / arg) if arg[0] != "-" else arg for arg in args]
    refusal = predict(model, *placed)
    assert refusal.returncode == 2
    assert problem in refusal.stderr.splitlines()[-1]
    assert "Traceback" not in refusal.stderr
    assert not (noisy / "c.png").exists()


def test_pictures_are_not_written_over_each_other(noisy: Path, tmp_path: Path) -> None:
    Image.open(noisy / "one.png").save(noisy / "one.bmp")
    with pytest.raises(InputError, match=r"would both be .*one.png"):
        restorations([str(noisy)], tmp_path / "clean")


def test_mlflows_python_function_answers_with_pictures_of_their_own_sizes(
    model: Path, noisy: Path
) -> None:
    answers = _load_pyfunc(str(model)).predict([noisy / "one.png", noisy / "more/two.jpg"])
    assert [each.shape for each in answers["picture"]] == [(47, 60, 3), (80, 33, 3)]
    assert answers["madds"].min() > 0


def test_pictures_that_are_equal_have_no_psnr() -> None:
    picture = np.full((4, 4, 3), 7, np.uint8)
    assert psnr(picture, picture) is None
    assert psnr(picture, picture + np.uint8(10)) == pytest.approx(20 * math.log10(25.5))
