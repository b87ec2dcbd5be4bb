"""A layer that a walk over a plan does not know is refused by its name."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from dsnet.inference.fold import End, Folded, Trunk
from dsnet.inference.onnx_graph import build
from dsnet.inference.reach import reach
from dsnet.inference.torch_backend import TorchBackend
from dsnet.nn.plan import Conv, Weight, count_madds


@dataclass(frozen=True)
class LayerNorm:
    """No layer of a plan."""


def folded(layer: Any) -> Folded:
    return Folded(Trunk((layer,), End((), 0)), torch.zeros(3), 4, (3,), (1, 1))


@pytest.mark.parametrize(
    "walk",
    [
        lambda network: count_madds(network.trunk.layers, 3, (4, 4)),
        lambda network: build(network, 17, False),
        TorchBackend,
        reach,
    ],
    ids=["counting", "onnx", "torch", "reach"],
)
def test_an_unknown_layer_is_an_error_by_name(walk: Any) -> None:
    with pytest.raises(TypeError, match="LayerNorm is not one of the layers"):
        walk(folded(LayerNorm()))


def test_an_unknown_activation_is_an_error_by_name() -> None:
    weight = Weight(torch.zeros(3, 3, 1, 1), (3, 3, 1, 1))
    network = folded(Conv(weight, torch.zeros(3), 1, 1, "gelu"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'gelu' is not one of the activations"):
        build(network, 17, False)
    with pytest.raises(TypeError, match="'gelu' is not one of the activations"):
        TorchBackend(network)(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), 0.0)
