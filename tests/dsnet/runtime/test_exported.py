"""The ONNX file without torch: every budget, by the gate that was trained for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dsnet
from dsnet import InputError, Predictor
from dsnet.inference.export import write_onnx
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.network import DSNet
from dsnet.nn.gate import make_head
from dsnet.routing.budget import calibrate_prices, price_for
from dsnet.routing.tuned import TunedGate, fitted, put_heads
from dsnet.runtime.exported import Exported
from tests.dsnet.inference.networks import network, pictures
from tests.dsnet.inference.test_agreement import EXAMPLE

TWO_GATES = replace(
    EXAMPLE,
    stages=(Stage((32, 64)), Stage((64, 128), gated=True), Stage((64, 128, 192), gated=True)),
)
SHARES = (0.7, 0.9)


def tuned(model: DSNet, share: float, hidden: int) -> TunedGate:
    """Random heads, calibrated on random pictures."""
    x = dsnet.normalize(pictures(model, 8), model.metadata.mean, model.metadata.std)
    heads = []
    for gate, entries in zip(model.gates, model.space.choices, strict=True):
        head = make_head(gate.features, len(entries), hidden)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter.requires_grad_(False))
        heads.append(head)
    priced = DSNet(model.architecture, model.metadata).eval()
    priced.load_state_dict(model.state_dict())
    put_heads(priced, heads)
    priced.metadata = replace(model.metadata, prices=calibrate_prices(priced, [x]))
    widest = model.madds(model.space.routes[-1])
    return TunedGate(tuple(heads), share * widest, price_for(priced, share), priced.metadata.prices)


@pytest.mark.parametrize(("architecture", "hidden"), [(EXAMPLE, 0), (TWO_GATES, 5)])
def test_every_budget_runs_as_in_torch(
    tmp_path: Path, architecture: Architecture, hidden: int
) -> None:
    model = network(architecture, 0)
    gates = [tuned(model, share, hidden) for share in SHARES]
    directory = dsnet.save(fitted(model, gates[1]), tmp_path / "model", gates)
    write_onnx(dsnet.load(directory), directory)
    exported = Exported(directory)
    images = pictures(model, 40)
    for budget in (None, *SHARES, 0.8, 1.0):
        logits, widths, madds = Predictor(directory, budget).routed(images)
        found, chosen, spent = exported(images.numpy(), budget)
        assert chosen.tolist() == widths.tolist(), budget
        assert spent.tolist() == madds.tolist() == [model.madds(width) for width in chosen]
        assert np.allclose(found, logits.numpy(), atol=1e-4)
    assert exported.madds == [model.madds(width) for width in model.space]


def test_a_gate_of_another_shape_than_the_file_s_is_refused(tmp_path: Path) -> None:
    model = network(EXAMPLE, 0)
    gates = [tuned(model, 0.7, 0), tuned(model, 0.9, 5)]
    directory = dsnet.save(fitted(model, gates[0]), tmp_path / "model", gates)
    write_onnx(dsnet.load(directory), directory)
    with pytest.raises(InputError, match="this budget needs torch"):
        Exported(directory)(pictures(model, 1).numpy(), 0.9)
