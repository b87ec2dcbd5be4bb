"""Images from files: prepared as the loader prepares them, classified as the model says."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.routing.budget import calibrate_prices
from dsnet.routing.tuned import at_budget
from dsnet.runtime.pixels import prepare
from pipeline.data.ingest import ingest
from pipeline.data.loader import Loader
from pipeline.data.recipes import Recipe
from pipeline.data.sources import open_source
from pipeline.predict import open_model, predict, read_input

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


def test_predictions_are_the_models_own(model: DSNet, files: list[Path]) -> None:
    predictions = predict(model, files)
    with torch.inference_mode():
        images = dsnet.normalize(torch.from_numpy(scans(40)), MEAN, STD)
        widths = model.route(images).tolist()
        # Each image alone at its width: an independent way to the routed logits.
        logits = [model(x[None], width=w)[0] for x, w in zip(images, widths, strict=True)]
    assert len(set(widths)) > 1
    assert [p.path for p in predictions] == [str(path) for path in files]
    assert [p.width for p in predictions] == widths
    assert [p.label for p in predictions] == [int(each.argmax()) for each in logits]
    assert [p.name for p in predictions] == ["abcdefghij"[p.label] for p in predictions]
    assert [p.madds for p in predictions] == [model.madds(w, resolution=8) for w in widths]
    confidences = [float(each.softmax(0).max()) for each in logits]
    assert [p.confidence for p in predictions] == pytest.approx(confidences, abs=1e-5)


def test_a_model_directory_predicts_as_the_model_does(
    model: DSNet, files: list[Path], tmp_path: Path
) -> None:
    dsnet.save(model, tmp_path / "model")
    again = predict(open_model(str(tmp_path / "model")), files)
    assert [(p.label, p.width) for p in again] == [
        (p.label, p.width) for p in predict(model, files)
    ]


def test_budgets_reach_from_the_slimmest_to_the_widest(model: DSNet, files: list[Path]) -> None:
    counts = [model.madds(i) for i in model.space.routes]
    widest = predict(at_budget(model, [], "1"), files)
    assert {p.madds for p in widest} == {counts[-1]}
    slimmest = predict(at_budget(model, [], str(counts[0])), files)
    assert {p.madds for p in slimmest} == {counts[0]}


def test_a_budget_is_met_on_the_images_that_it_was_calibrated_on(
    model: DSNet, files: list[Path]
) -> None:
    widest = model.madds(model.space.routes[-1])
    average = sum(p.madds for p in predict(at_budget(model, [], "0.7"), files)) / len(files)
    # 40 images move the average in steps of a 40th of the range, and may switch together.
    assert average / widest == pytest.approx(0.7, abs=0.1)


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
    pixels = read_input(path, Metadata(resolution=8))
    assert pixels.shape == (8, 8, 3)
    assert pixels.min() >= 254


def test_a_transparent_picture_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(path)
    assert (read_input(path, Metadata(resolution=8)) == 255).all()


def test_the_middle_square_is_what_the_model_sees(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 30:50] = 200  # half of the shorter side, in the middle
    Image.fromarray(pixels).save(tmp_path / "middle.png")
    seen = read_input(tmp_path / "middle.png", Metadata(resolution=10, crop=0.5))
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
        beton, batch_size=5, recipe=Recipe("test", crop=crop), train=False, resolution=32
    )
    (batch,) = loader.epoch(0)
    paths = sorted(folder.iterdir())
    read = np.stack([read_input(path, Metadata(resolution=32, crop=crop)) for path in paths])
    given = [np.array(Image.open(path))[None] for path in paths]
    assert np.array_equal(read, np.concatenate([prepare(each, 32, crop) for each in given]))
    # OpenCV rounds otherwise, by one level at most: halves in 2 x 2, and where it enlarges.
    assert np.abs(read - batch.images.numpy().astype(int)).max() <= 1


def test_what_is_not_an_image_is_refused_before_anything_is_computed(
    model: DSNet, files: list[Path], tmp_path: Path
) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(files[0].read_bytes()[:60])
    for path in (text, cut, tmp_path / "missing.png", tmp_path):
        with pytest.raises(InputError, match="expected") as error:
            predict(model, [files[0], path])
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


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
