"""Small networks of every family, with one gate, several or none, and weights worth comparing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dsnet import DSNet
from dsnet.models.architecture import Architecture, Stage
from dsnet.nn.gate import Gate
from dsnet.nn.layers import SlimBatchNorm2d
from dsnet.training import recalibrate

STEM = Stage((8, 12), stride=2)
ARCHITECTURES = {
    "mbnet with one gate": Architecture(
        name="mbnet_1",
        family="mbnet",
        stem=STEM,
        stages=(
            Stage((12, 20), blocks=2),
            Stage((8, 12, 16), blocks=2, stride=2, gated=True),
            Stage((12, 16, 20)),
        ),
    ),
    "mbnet with two gates": Architecture(
        name="mbnet_2",
        family="mbnet",
        stem=STEM,
        stages=(
            Stage((12, 20)),
            Stage((8, 12, 16), stride=2, gated=True),
            Stage((8, 12, 16), blocks=2),
            Stage((12, 20), stride=2, gated=True),
        ),
    ),
    "resnet with two gates": Architecture(
        name="resnet_2",
        family="resnet",
        stem=STEM,
        stages=(
            Stage((12, 20)),
            Stage((12, 16, 24), blocks=2, stride=2, gated=True),
            Stage((16, 32), blocks=2, gated=True),
        ),
        stem_pool=True,
    ),
    "basic resnet with one gate": Architecture(
        name="basic_resnet_1",
        family="basic_resnet",
        stem=STEM,
        stages=(
            Stage((12, 20)),
            Stage((8, 12, 24), blocks=2, stride=2, gated=True),
            Stage((12, 16, 32)),
        ),
    ),
    "resnet without gates": Architecture(
        name="resnet_0",
        family="resnet",
        stem=Stage((4, 6, 8), kernel=7, stride=2),
        stages=(Stage((8, 12, 16), blocks=2), Stage((16, 24, 32), blocks=2, stride=2)),
        stem_pool=True,
    ),
}
GATED = [name for name, architecture in ARCHITECTURES.items() if architecture.gates]


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)


@pytest.fixture
def build() -> Callable[..., DSNet]:
    """build(name, **changes) -> a network in eval mode and float64, for 16x16 pixels, 5 classes.

    Every parameter and private statistic has a value of its own, so that no two widths agree by
    accident, and among a few images the gates pick every route.
    """

    def build(name: str, **changes: Any) -> DSNet:
        changes = {"num_classes": 5, "resolution": 16, **changes}
        return randomize(DSNet(replace(ARCHITECTURES[name], **changes))).double().eval()

    return build


@torch.no_grad()
def randomize(model: DSNet) -> DSNet:
    """A network as after some training, as far as its statistics go."""
    norms = [module for module in model.modules() if isinstance(module, SlimBatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.2)
    for module in model.modules():
        if isinstance(module, Gate) and module.reduce is not None:
            module.reduce.bias.fill_(0.5)  # no unit is dead, no two logits are equal
    for parameter in model.head.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.5)
    images = varied_images(64, model.metadata.resolution)
    recalibrate(model, [images])
    for norm in norms:
        norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    for index, gate in enumerate(model.gates):
        x = images.double()
        for segment in range(index + 1):
            x, reduced = model.double().eval().segment(segment, x, model.space[0])
        assert reduced is not None and gate.slimming is not None
        # No route is ahead on average, so that each of them is picked for some images.
        towards = reduced.mean(0) / reduced.mean(0).norm()
        gate.slimming.weight.normal_(0, 20)
        gate.slimming.weight -= torch.outer(gate.slimming.weight @ towards, towards)
    return model


def varied_images(count: int, side: int = 16) -> Tensor:
    """Noise of different brightness and contrast, float32."""
    contrast, brightness = 0.5 + torch.rand(count, 1, 1, 1), torch.randn(count, 3, 1, 1)
    return torch.randn(count, 3, side, side) * contrast + brightness


@pytest.fixture(params=ARCHITECTURES)
def network(request: pytest.FixtureRequest, build: Callable[..., DSNet]) -> DSNet:
    """Each of the networks."""
    return build(request.param)


@pytest.fixture(params=GATED)
def gated(request: pytest.FixtureRequest, build: Callable[..., DSNet]) -> DSNet:
    """Each of the networks that has a gate."""
    return build(request.param)


@pytest.fixture
def images() -> Tensor:
    return varied_images(24).double()


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, 5, (24,))
