"""Images from files: prepared as the loader prepares them, classified as the model says."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.inference.export import write_onnx
from dsnet.routing.budget import calibrate_prices
from dsnet.routing.tuned import at_budget
from dsnet.runtime.pixels import prepare
from pipeline.data.augment.recipes import Recipe
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.sources import open_source
from pipeline.predict.files import expand, listed, read_input
from pipeline.predict.model import BACKENDS, open_model, open_runner
from pipeline.predict.stream import Row, predict
from pipeline.predict.table_file import SUFFIXES, table_file

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.3, 0.25)


def scans(count: int) -> np.ndarray:
    """The first handwritten digits, uint8 (count, 8, 8, 3)."""
    grey = (load_digits().images[:count] * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


@torch.no_grad()
def spread(model: DSNet, images: torch.Tensor) -> DSNet:
    """Make choices and answers depend on the image, which in a random network they hardly do."""
    features = model.segment(0, images, model.space[0])[1]
    assert features is not None
    mean = features.mean(0)
    (head,) = model.slimming_parameters()
    random = torch.randn(head.shape, generator=torch.Generator().manual_seed(1)).flatten(1)
    # What all images share has no say, so that their differences have it all.
    random -= torch.outer(random @ mean, mean) / (mean @ mean)
    head.copy_((random / features.std()).reshape(head.shape))
    model.classifier.weight /= model(images).std()
    return model


@pytest.fixture(scope="module")
def model() -> DSNet:
    """A small network whose gate uses several widths, calibrated on the first 40 digits."""
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, mean=MEAN, std=STD, classes=tuple("abcdefghij"))
    images = dsnet.normalize(torch.from_numpy(scans(40)), MEAN, STD)
    network = spread(dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval(), images)
    network.metadata = replace(metadata, prices=calibrate_prices(network, [images]))
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first 40 digits as PNG files."""
    folder = tmp_path_factory.mktemp("scans")
    for index, scan in enumerate(scans(40)):
        Image.fromarray(scan).save(folder / f"{index:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def directory(model: DSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory, its ONNX file included."""
    folder = dsnet.save(model, tmp_path_factory.mktemp("predict") / "model")
    write_onnx(model, folder)
    return folder


def predicted(
    directory: Path,
    files: Sequence[Path],
    budget: str | None = None,
    backend: str | None = None,
    **options: Any,
) -> list[Row]:
    with open_runner(str(directory), budget, backend) as (runner, spent):
        batches = predict(runner, [str(path) for path in files], spent, **options)
        return [row for rows in batches for row in rows]


@pytest.mark.parametrize("backend", BACKENDS)
def test_predictions_are_the_models_own(
    model: DSNet, directory: Path, files: list[Path], backend: str
) -> None:
    rows = predicted(directory, files, backend=backend)
    with torch.inference_mode():
        images = dsnet.normalize(torch.from_numpy(scans(40)), MEAN, STD)
        widths = model.route(images).tolist()
        # Each image alone at its width: an independent way to the routed logits.
        logits = [model(x[None], width=w)[0] for x, w in zip(images, widths, strict=True)]
    assert len(set(widths)) > 1
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert [row["width"] for row in rows] == widths
    assert [row["label"] for row in rows] == [int(each.argmax()) for each in logits]
    assert [row["class"] for row in rows] == ["abcdefghij"[row["label"]] for row in rows]
    assert [row["madds"] for row in rows] == [model.madds(w, resolution=8) for w in widths]
    confidences = [float(each.softmax(0).max()) for each in logits]
    assert [row["confidence"] for row in rows] == pytest.approx(confidences, abs=1e-5)
    for row, each in zip(
        predicted(directory, files, backend=backend, top_k=3), logits, strict=True
    ):
        assert row["labels"] == each.topk(3).indices.tolist()
        assert row["confidences"] == pytest.approx(
            each.softmax(0).topk(3).values.tolist(), abs=1e-5
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_budgets_reach_from_the_slimmest_to_the_widest(
    model: DSNet, directory: Path, files: list[Path], backend: str
) -> None:
    counts = [model.madds(i) for i in model.space.routes]
    widest = predicted(directory, files, "1", backend)
    assert {row["madds"] for row in widest} == {counts[-1]}
    slimmest = predicted(directory, files, str(counts[0]), backend)
    assert {row["madds"] for row in slimmest} == {counts[0]}
    # 40 images move the average in steps of a 40th of the range, and may switch together.
    average = sum(row["madds"] for row in predicted(directory, files, "0.7", backend)) / 40
    assert average / counts[-1] == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("budget", ["0", "-1", "1.5", "50", "0.01", "900M", "half"])
def test_a_budget_out_of_range_is_refused(model: DSNet, budget: str) -> None:
    with pytest.raises(InputError) as error:
        at_budget(model, [], budget)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, "png") for mode in ("L", "LA", "RGB", "RGBA", "P", "1")]
    + [(mode, "jpg") for mode in ("L", "RGB", "CMYK")],
)
def test_every_kind_of_picture_is_read(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    # One colour that every mode can say, so the right answer needs no second decoder.
    Image.new("RGB", (30, 20), "white").convert(mode).save(path)
    pixels = read_input(str(path), 8, 1.0)
    assert pixels.shape == (8, 8, 3)
    assert pixels.min() >= 254


def test_a_transparent_picture_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(path)
    assert (read_input(str(path), 8, 1.0) == 255).all()


def test_the_middle_square_is_what_the_model_sees(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 30:50] = 200  # half of the shorter side, in the middle
    Image.fromarray(pixels).save(tmp_path / "middle.png")
    seen = read_input(str(tmp_path / "middle.png"), 10, 0.5)
    assert (seen == 200).all()


@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_the_loader_the_command_and_the_predictor_cut_and_shrink_alike(
    crop: float, tmp_path: Path
) -> None:
    folder = tmp_path / "photos" / "any"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index, (width, height) in enumerate([(90, 61), (40, 100), (200, 150), (32, 32), (20, 25)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    beton = tmp_path / "photos.beton"
    ingest(open_source(str(folder.parent), "train"), beton, write_mode="raw")
    loader = Loader(
        beton,
        LoaderOptions(batch_size=5, recipe=Recipe("test", crop=crop), train=False, resolution=32),
    )
    (batch,) = loader.epoch(0)
    paths = sorted(folder.iterdir())
    read = np.stack([read_input(str(path), 32, crop) for path in paths])
    given = [np.array(Image.open(path))[None] for path in paths]
    assert np.array_equal(read, np.concatenate([prepare(each, 32, crop) for each in given]))
    # OpenCV rounds otherwise, by one level at most: halves in 2 x 2, and where it enlarges.
    assert np.abs(read - batch.images.numpy().astype(int)).max() <= 1


def test_what_is_no_image_is_told_and_passed_over(
    directory: Path, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # to open it would be to wait for ever
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2**29 + 1)
    wrong = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png"]
    told: list[str] = []
    mixed = [files[0], *wrong, files[1]]
    rows = predicted(directory, mixed, passed_over=told.append)
    assert [row["path"] for row in rows] == [str(files[0]), str(files[1])]
    assert [line.partition(":")[0] for line in told] == [str(path) for path in wrong]
    assert all("expected" in line and "\n" not in line for line in told)
    with pytest.raises(InputError, match=r"cut\.png: expected a picture"):
        predicted(directory, mixed)


def test_what_a_folder_means_is_every_file_below_it_by_name(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a/deep/1.png", "z.png", ".hidden/1.png", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    found = expand([str(tmp_path / "z.png"), str(tmp_path), str(tmp_path / "empty"), "gone"])
    names = ["z.png", "z.png", "a/deep/1.png", "b/10.png", "b/2.png", "empty"]
    assert found == [*(str(tmp_path / name) for name in names), "gone"]


def test_a_list_of_paths_has_lines_or_ends_each_with_nul() -> None:
    assert listed(b"a b.png\n\nc.png\r\nd") == ["a b.png", "c.png", "d"]
    assert listed(b"a\nb.png\0c.png\0") == ["a\nb.png", "c.png"]
    assert os.fsencode(listed(b"\xff.png")[0]) == b"\xff.png"


def test_what_decodes_ahead_ends_when_nobody_asks_for_more(
    directory: Path, files: list[Path]
) -> None:
    with open_runner(str(directory)) as (runner, _):
        batches = predict(runner, [str(files[index % 40]) for index in range(2000)])
        assert len(next(batches)) == 64
        threads = [t for t in threading.enumerate() if t.name.startswith("decode")]
        assert threads
        batches.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize(("options", "said"), [({"top_k": 11}, "top_k"), ({"budget": "2"}, "2")])
def test_what_cannot_be_answered_is_refused_before_any_file_is_read(
    directory: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        predicted(directory, [Path("missing.png")], **options)


def test_a_model_that_does_not_classify_is_refused() -> None:
    class Smoother:
        task = "smoothing"

    with pytest.raises(InputError, match="expected a model that classifies, found one for smooth"):
        predict(Smoother(), [])  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_answers_holds_what_was_predicted(
    directory: Path, files: list[Path], tmp_path: Path, suffix: str
) -> None:
    rows = predicted(directory, files, top_k=2)
    path = tmp_path / f"answers{suffix}"
    with table_file(path, top_k=2) as write:
        write(rows[:30])
        write(rows[30:])
        assert not path.exists()
    assert read_back(path) == rows
    with pytest.raises(KeyboardInterrupt), table_file(path) as write:
        raise KeyboardInterrupt
    assert read_back(path) == rows
    assert list(tmp_path.iterdir()) == [path]


def read_back(path: Path) -> list[Row]:
    if path.suffix == ".parquet":
        found: list[Row] = parquet.read_table(path).to_pylist()
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        texts = {"path", "class"}
        return [
            {key: value if key in texts else json.loads(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def test_one_image_needs_no_torch_where_the_directory_has_its_onnx_file(
    directory: Path, files: list[Path]
) -> None:
    script = """
import sys
from jobs import cli
status = cli.run(sys.argv[1:])
heavy = {"torch", "mlflow", "ray", "ffcv", "pyarrow", "cv2"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else status)
"""
    run = [sys.executable, "-c", script, "predict", str(directory), str(files[0])]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(files[0].name) in done.stdout


def test_a_damaged_model_directory_is_refused(model: DSNet, tmp_path: Path) -> None:
    whole = dsnet.save(model, tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="SHA256SUMS"):
        open_model(str(tmp_path / "damaged"))
    with pytest.raises(InputError, match="not a model directory"):
        open_model(str(tmp_path / "nothing"))
