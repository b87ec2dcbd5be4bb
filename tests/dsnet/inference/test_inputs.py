"""Wrong inputs are refused in one clear line; none at all is an answer of length none."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dsnet
from dsnet import InputError, Predictor
from dsnet.inference.export import ONNX, export, write_onnx
from dsnet.io.files import write_sums
from dsnet.io.weights import verify
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.network import DSNet
from tests.dsnet.inference.networks import network, pictures
from tests.dsnet.inference.test_agreement import BACKENDS, EXAMPLE


@pytest.fixture(scope="module")
def model() -> DSNet:
    return network(EXAMPLE, 0)


@pytest.fixture(scope="module", params=BACKENDS)
def predictor(request: pytest.FixtureRequest, model: DSNet) -> Predictor:
    return Predictor(model, backend=request.param)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (
            np.zeros((1, 16, 16, 3), np.float32),
            "expected uint8 pixels from 0 to 255, found torch.f",
        ),
        (
            np.zeros((1, 16, 16, 2), np.uint8),
            r"expected shape \(N, H, W, 3\), found \(1, 16, 16, 2",
        ),
        (np.zeros((1, 3, 16, 16), np.uint8), "move the channels last"),
        (np.zeros((16, 16, 3), np.uint8), r"found \(16, 16, 3\)"),
        (np.zeros((2, 0, 16, 3), np.uint8), r"found \(2, 0, 16, 3\)"),
    ],
)
def test_images_that_are_none(predictor: Predictor, images: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        predictor(images)


def test_an_empty_batch_has_empty_answers(predictor: Predictor) -> None:
    logits, widths = predictor(np.zeros((0, 16, 16, 3), np.uint8))
    assert logits.shape == (0, 5) and logits.dtype == torch.float32
    assert widths.shape == (0,) and widths.dtype == torch.int64


def test_numpy_and_torch_images_are_the_same(predictor: Predictor, model: DSNet) -> None:
    images = pictures(model, 4)
    for one, other in zip(predictor(images), predictor(images.numpy()), strict=True):
        assert torch.equal(one, other)


def test_a_picture_of_another_size_is_prepared_as_in_evaluation(model: DSNet) -> None:
    wide = replace(model.metadata, crop=0.5)
    predictor = Predictor(with_metadata(model, wide))
    images = torch.randint(0, 256, (3, 64, 80, 3), dtype=torch.uint8)
    # The middle 32 x 32 pixels, in squares of two by two.
    middle = images[:, 16:48, 24:56].float().reshape(3, 16, 2, 16, 2, 3).mean((2, 4))
    expected = predictor(middle.round().to(torch.uint8))[0]
    assert torch.equal(predictor(images)[0], expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"price": float("nan")}, "price: expected a finite number, found nan"),
        ({"price": float("inf")}, "price: expected a finite number, found inf"),
        ({"budget": 0.5, "price": 1.0}, "exclude each other"),
        ({"budget": "half"}, "expected a fraction"),
        ({"budget": 0.5}, "no calibrated prices"),
        ({"width": 99}, "width must be 0 to 2"),
        ({"backend": "tensorrt"}, "expected torch or onnxruntime, found 'tensorrt'"),
    ],
)
def test_options_that_make_no_sense(model: DSNet, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Predictor(model, **options)


def test_a_budget_out_of_range_is_refused_with_the_range(model: DSNet) -> None:
    slim, wide = model.madds(0), model.madds(2)
    calibrated = with_metadata(
        model, replace(model.metadata, prices=((-1.0, float(wide)), (1.0, float(slim))))
    )
    with pytest.raises(InputError, match=f"expected {slim:,} to {wide:,} multiply-adds"):
        Predictor(calibrated, budget=0.9 * slim / wide)


def test_routing_without_a_gate_is_refused() -> None:
    architecture = Architecture("plain", "mbnet", Stage((4,)), (Stage((4,)),), 3, resolution=8)
    with pytest.raises(InputError, match="no gate to route by: give a width"):
        Predictor(network(architecture, 0))


def test_more_joint_paths_than_the_bound_are_refused_with_the_number() -> None:
    many = tuple(Stage(tuple(range(4, 24, 4)), gated=True) for _ in range(3))
    architecture = Architecture("many", "mbnet", Stage((4,)), many, 3, resolution=8)
    with pytest.raises(InputError, match="125 joint paths: expected at most 64"):
        export(DSNet(architecture), "never.onnx")


def test_an_opset_that_is_not_supported_is_refused(model: DSNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="opset: expected 17 to 23, found 11"):
        export(model, tmp_path / "old.onnx", opset=11)
    assert not list(tmp_path.iterdir())


def test_a_model_directory_carries_the_file_and_the_predictor_reads_it(
    model: DSNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = dsnet.save(model, tmp_path / "model")
    path = write_onnx(model, directory)
    assert path == directory / ONNX
    verify(directory)
    images = pictures(model, 5)
    expected = Predictor(model)(images)
    # With nothing to write ONNX with, only the file can have answered.
    monkeypatch.setattr("dsnet.inference.predictor.to_bytes", None)
    logits, widths = Predictor(directory, backend="onnxruntime")(images)
    assert torch.equal(widths, expected[1])
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-3)


def test_a_file_of_another_model_is_refused(model: DSNet, tmp_path: Path) -> None:
    directory = dsnet.save(model, tmp_path / "model")
    write_onnx(model, directory)
    other = dsnet.save(network(EXAMPLE, 1), tmp_path / "other")
    shutil.copy(directory / ONNX, other / ONNX)
    write_sums(other)
    with pytest.raises(InputError, match="exported from another model"):
        Predictor(other, backend="onnxruntime")


def test_without_the_extra_the_error_names_it(
    model: DSNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    directory = dsnet.save(model, tmp_path / "model")
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=r"needs onnx, which is not installed: pip install 'dsnet\[e"
    ):
        export(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"pip install 'dsnet\[export\]'"):
        Predictor(model, backend="onnxruntime")
    assert write_onnx(model, directory) is None
    assert not (directory / ONNX).exists()


def test_an_exported_file_that_differs_is_found_out(
    model: DSNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network(EXAMPLE, 1)
    monkeypatch.setattr("dsnet.inference.export.to_bytes", lambda *_, **__: content)
    from dsnet.inference.fold import fold
    from dsnet.inference.onnx_graph import build

    content = build(fold(other), 17, False).SerializeToString()
    with pytest.raises(RuntimeError, match="the exported file"):
        export(model, tmp_path / "wrong.onnx")
    assert not list(tmp_path.iterdir())


def with_metadata(model: DSNet, metadata: dsnet.Metadata) -> DSNet:
    """The same weights with other metadata."""
    other = DSNet(model.architecture, metadata)
    other.load_state_dict(model.state_dict())
    return other.eval()
