"""A budget becomes a price, and the price meets the budget."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import dsnet
from dsnet import DSNet, InputError, Predictor, normalize
from dsnet.inference.export import to_bytes
from dsnet.models.architecture import Stage
from dsnet.routing.budget import calibrate_prices, gate_logits, price_for, prices_from_logits
from dsnet.routing.tuned import at_budget
from tests.dsnet.inference.networks import network, pictures
from tests.dsnet.inference.test_agreement import EXAMPLE

TWO_GATES = replace(EXAMPLE, stages=(*EXAMPLE.stages, Stage((16, 64, 160), stride=2, gated=True)))


def calibrated(model: DSNet, images: Tensor) -> DSNet:
    x = normalize(images, model.metadata.mean, model.metadata.std)
    model.metadata = replace(model.metadata, prices=calibrate_prices(model, [x[:50], x[50:]]))
    return model


def average_madds(model: DSNet, images: Tensor, price: float) -> float:
    x = normalize(images, model.metadata.mean, model.metadata.std)
    with torch.no_grad():
        return sum(model.madds(i) for i in model.route(x, price).tolist()) / len(images)


@pytest.fixture(scope="module", params=[EXAMPLE, TWO_GATES], ids=["one gate", "two gates"])
def case(request: pytest.FixtureRequest) -> tuple[DSNet, Tensor]:
    model = network(request.param, 0)
    images = pictures(model, 200)
    return calibrated(model, images), images


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.8, 1.0])
def test_images_it_was_calibrated_on_average_to_the_budget(
    case: tuple[DSNet, Tensor], share: float
) -> None:
    model, images = case
    madds = [model.madds(route) for route in model.space.routes]
    low, high = min(madds), max(madds)
    budget = round(low + share * (high - low))
    reached = average_madds(model, images, price_for(model, str(budget)))
    assert reached == pytest.approx(budget, rel=0.01)
    fraction = average_madds(model, images, price_for(model, min(1.0, budget / high + 1e-9)))
    assert fraction == pytest.approx(reached, rel=0.01)


def test_the_ends_of_the_range_hold_for_images_never_seen(case: tuple[DSNet, Tensor]) -> None:
    model, _ = case
    madds = [model.madds(route) for route in model.space.routes]
    torch.manual_seed(1)
    images = pictures(model, 300)
    assert average_madds(model, images, price_for(model, str(min(madds)))) == min(madds)
    assert average_madds(model, images, price_for(model, 1.0)) == max(madds)


def test_a_larger_budget_never_has_a_higher_price(case: tuple[DSNet, Tensor]) -> None:
    model, _ = case
    low = min(model.madds(i) for i in model.space.routes)
    high = max(model.madds(i) for i in model.space.routes)
    prices = [price_for(model, str(round(low + step / 40 * (high - low)))) for step in range(41)]
    assert prices == sorted(prices, reverse=True)
    assert prices[0] > 0 > prices[-1]


def test_the_predictor_spends_its_budget(case: tuple[DSNet, Tensor]) -> None:
    model, images = case
    high = max(model.madds(i) for i in model.space.routes)
    for backend in ("torch", "onnxruntime"):
        widths = Predictor(model, budget=0.7, backend=backend)(images)[1]
        reached = sum(model.madds(i) for i in widths.tolist()) / len(images)
        assert reached == pytest.approx(0.7 * high, rel=0.015)


def test_without_a_budget_the_predictor_pays_the_price_the_model_was_trained_to(
    case: tuple[DSNet, Tensor],
) -> None:
    model, images = case
    x = normalize(images, model.metadata.mean, model.metadata.std)
    other = DSNet(model.architecture, replace(model.metadata, price=price_for(model, 0.8)))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = other.eval().route(x)
    assert torch.equal(Predictor(other)(images)[1], expected)
    assert not torch.equal(Predictor(other, price=0.0)(images)[1], expected)


def test_a_file_spends_what_the_model_was_tuned_to_unless_a_price_is_given(
    case: tuple[DSNet, Tensor],
) -> None:
    model, images = case
    high = max(model.madds(i) for i in model.space.routes)

    def spent(session: onnxruntime.InferenceSession, **feed: np.ndarray) -> float:
        (widths,) = session.run(["widths"], {"images": images.numpy(), **feed})
        return sum(model.madds(i) for i in widths.tolist()) / len(images)

    for share in (0.6, 0.8):
        other = at_budget(model, [], share)
        content = to_bytes(other)
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
        session = onnxruntime.InferenceSession(content)
        assert [value.name for value in session.get_inputs()] == ["images"]
        assert spent(session) == pytest.approx(share * high, rel=0.015)
        for price in (0.0, price_for(model, 0.9)):
            given = spent(session, price=np.array(price, np.float32))
            assert given == pytest.approx(average_madds(model, images, price), rel=0.01)
            assert given != spent(session)


@pytest.mark.parametrize("share", [0.6, 0.75, 1.0])
def test_the_page_turns_a_budget_into_a_price_with_numpy_and_the_file_alone(
    case: tuple[DSNet, Tensor], tmp_path: Path, share: float
) -> None:
    model, images = case
    model.metadata = replace(model.metadata, classes=tuple("abcde"))
    page = Path(__file__).parents[3] / "docs" / "inference.md"
    blocks = page.read_text().split("```python\n")[1:]
    (script,) = (
        code for block in blocks if "import onnxruntime" in (code := block.split("```")[0])
    )
    (tmp_path / "model.onnx").write_bytes(to_bytes(model))
    np.save(tmp_path / "images.npy", images.numpy())
    script += "assert not {'torch', 'dsnet', 'onnx'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", script, "model.onnx", "images.npy", str(share)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    average, labels = done.stdout.splitlines()
    assert float(average.split()[0]) == pytest.approx(share, rel=0.015)
    logits = Predictor(model, budget=share)(images)[0]
    assert labels.split() == ["abcde"[label] for label in logits.argmax(1).tolist()]


def test_logits_gathered_from_workers_calibrate_like_the_batches(
    case: tuple[DSNet, Tensor],
) -> None:
    model, images = case
    x = normalize(images, model.metadata.mean, model.metadata.std)
    with torch.no_grad():
        logits = torch.cat([gate_logits(model, part) for part in x.split(70)])
    if len(model.gates) > 1:
        with pytest.raises(InputError, match="expects one gate"):
            prices_from_logits(model, logits)
    else:
        assert prices_from_logits(model, logits) == model.metadata.prices


@given(seed=st.integers(0, 50), scale=st.sampled_from((0.0, 1e-3, 1.0, 30.0, 1e3)))
@settings(max_examples=25)
def test_any_gate_gives_a_falling_curve_from_the_widest_to_the_slimmest(
    seed: int, scale: float
) -> None:
    model = dsnet.create_model("ds_mbnet_digits").eval()
    logits = scale * torch.randn(143, 4, generator=torch.Generator().manual_seed(seed))
    curve = prices_from_logits(model, logits)
    prices, averages = zip(*curve, strict=True)
    assert list(prices) == sorted(set(prices))
    assert list(averages) == sorted(averages, reverse=True)
    assert averages[0] == model.madds(3) and averages[-1] == model.madds(0)


def test_the_curve_is_stored_with_the_model(case: tuple[DSNet, Tensor], tmp_path: object) -> None:
    model, _ = case
    loaded = dsnet.load(dsnet.save(model, f"{tmp_path}/model"))
    assert loaded.metadata == model.metadata
    assert price_for(loaded, 0.6) == price_for(model, 0.6)


@pytest.mark.parametrize("budget", ["0", "1.5", "10", "2G", -0.5, float("nan"), "many"])
def test_budgets_that_cannot_be_met_are_refused(case: tuple[DSNet, Tensor], budget: object) -> None:
    with pytest.raises(InputError, match="expected"):
        price_for(case[0], budget)  # type: ignore[arg-type]
