"""Tuned gates: several in one model directory, and the one that a budget picks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import dsnet
from dsnet import DSNet, InputError
from dsnet.io.weights import load_gates
from dsnet.nn.gate import head_from, make_head
from dsnet.routing.budget import calibrate_prices, price_for
from dsnet.routing.tuned import TunedGate, at_budget, fitted, put_heads

FRACTIONS = (0.4, 0.6, 0.9)


@pytest.fixture
def model() -> DSNet:
    torch.manual_seed(0)
    return dsnet.create_model("ds_mbnet_digits").eval()


@pytest.fixture
def pixels(model: DSNet) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(64, 3, 8, 8, generator=generator)


@pytest.fixture(params=[0, 6], ids=["linear", "hidden layer"])
def gates(model: DSNet, pixels: Tensor, request: pytest.FixtureRequest) -> list[TunedGate]:
    """One for each of FRACTIONS, no two alike."""
    widest = max(model.madds(route) for route in model.space.routes)
    tuned = []
    for seed, fraction in enumerate(FRACTIONS):
        generator = torch.Generator().manual_seed(seed)
        (gate,) = model.gates
        head = make_head(gate.features, 4, request.param, generator)
        last = list(head.parameters())[-1]
        torch.nn.init.normal_(last, std=5, generator=generator)
        head.requires_grad_(False)
        put_heads(model, [head])
        prices = calibrate_prices(model, [pixels])
        model.metadata = replace(model.metadata, prices=prices)
        price = price_for(model, fraction)
        tuned.append(TunedGate((head,), fraction * widest, price, prices))
    return tuned


def test_gates_come_back_from_a_model_directory_as_they_were(
    model: DSNet, gates: list[TunedGate], tmp_path: Path
) -> None:
    folder = dsnet.save(fitted(model, gates[1]), tmp_path / "model", gates)
    back = load_gates(folder)
    assert len(back) == len(gates)
    for ours, theirs in zip(gates, back, strict=True):
        assert (theirs.target, theirs.price, theirs.prices) == (
            ours.target,
            ours.price,
            ours.prices,
        )
        for mine, read in zip(ours.heads, theirs.heads, strict=True):
            assert all(
                torch.equal(a, b) for a, b in zip(mine.parameters(), read.parameters(), strict=True)
            )


def test_gates_that_differ_in_their_price_alone_may_share_their_heads(
    model: DSNet, gates: list[TunedGate], tmp_path: Path
) -> None:
    shared = [replace(gate, heads=gates[0].heads) for gate in gates]
    back = load_gates(dsnet.save(fitted(model, shared[1]), tmp_path / "model", shared))
    assert [gate.price for gate in back] == [gate.price for gate in gates]
    for read in back:
        for name, value in read.heads[0].state_dict().items():
            assert torch.equal(value, gates[0].heads[0].state_dict()[name])


def test_a_budget_routes_by_the_gate_trained_nearest_to_it(
    model: DSNet, gates: list[TunedGate], pixels: Tensor, tmp_path: Path
) -> None:
    folder = dsnet.save(fitted(model, gates[1]), tmp_path / "model", gates)
    for budget, index in ((0.4, 0), (0.45, 0), (0.55, 1), (0.8, 2), (0.9, 2)):
        found = dsnet.load(folder, budget=budget)
        expected = fitted(model, gates[index])
        price = price_for(expected, budget)
        assert found.metadata.price == pytest.approx(price, rel=0.05)
        assert torch.equal(found.route(pixels), expected.route(pixels, found.metadata.price))
    for gate, fraction in zip(gates, FRACTIONS, strict=True):
        assert dsnet.load(folder, budget=fraction).metadata.price == gate.price
    assert dsnet.load(folder).metadata.price == gates[1].price


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_the_predictor_routes_by_the_budgets_gate_too(
    model: DSNet, gates: list[TunedGate], tmp_path: Path, backend: str
) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    from dsnet.inference.export import write_onnx

    folder = dsnet.save(fitted(model, gates[1]), tmp_path / "model", gates)
    if backend == "onnxruntime":
        write_onnx(dsnet.load(folder), folder)  # a file with the gate in place
    images = torch.randint(0, 256, (48, 8, 8, 3), dtype=torch.uint8)
    for budget in (None, *FRACTIONS):
        there = dsnet.load(folder, budget=budget)
        x = dsnet.normalize(images, there.metadata.mean, there.metadata.std)
        predictor = dsnet.Predictor(folder, budget, backend)  # type: ignore[arg-type]
        logits, widths = predictor(images)
        with torch.inference_mode():
            expected, routes = there.dynamic(x)
        assert torch.equal(widths, routes)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)


def test_a_model_with_one_gate_takes_budgets_by_its_own_prices(
    model: DSNet, pixels: Tensor
) -> None:
    model.metadata = replace(model.metadata, prices=calibrate_prices(model, [pixels]))
    assert at_budget(model, [], 0.7).metadata.price == price_for(model, 0.7)
    assert model.metadata.price == 0


def test_heads_that_do_not_fit_are_refused_with_what_is_due(model: DSNet) -> None:
    (gate,) = model.gates
    reduced = gate.features
    with pytest.raises(InputError, match=f"from {reduced} features to 4 routes, found .* to 3"):
        put_heads(model, [make_head(reduced, 3)])
    with pytest.raises(InputError, match="for 1 gates and for no look or 3, found 2"):
        put_heads(model, [make_head(reduced, 4)] * 2)
    with pytest.raises(KeyError):
        head_from({"bias": torch.zeros(4)})


def test_a_damaged_file_is_refused_by_name(
    model: DSNet, gates: list[TunedGate], tmp_path: Path
) -> None:
    folder = dsnet.save(model, tmp_path / "model", gates)
    (folder / "gates.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"gates\.safetensors"):
        dsnet.load(folder)  # against its checksum
    with pytest.raises(InputError, match=r"gates\.safetensors"):
        load_gates(folder)
    description = json.loads((folder / "model.json").read_text())
    assert [facts["target"] for facts in description["gates"]] == [g.target for g in gates]
