"""Small networks with one gate and with two, and tables made by hand."""

from collections.abc import Sequence

import pytest
import torch

from dsnet import DSNet
from dsnet.models.architecture import Architecture, Stage
from dsnet.routing import Paths, RoutingTable
from dsnet.tasks.registry import CLASSIFICATION

ONE_GATE = Architecture(
    name="one_gate",
    family="mbnet",
    stem=Stage((8, 12)),
    stages=(Stage((8, 16), stride=2), Stage((12, 16, 24), stride=2, gated=True)),
    num_classes=6,
    resolution=8,
)
TWO_GATES = Architecture(
    name="two_gates",
    family="mbnet",
    stem=Stage((8, 12)),
    stages=(
        Stage((8, 16), stride=2),
        Stage((12, 16, 24), gated=True),
        Stage((16, 20, 28), stride=2, gated=True),
    ),
    num_classes=6,
    resolution=8,
)


def random_network(architecture: Architecture, seed: int = 4) -> DSNet:
    """A network in eval mode whose gates and widths disagree often enough to tell them apart."""
    torch.manual_seed(seed)
    model = DSNet(architecture)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.uniform_(0.2, 0.6) if name.endswith("var") else buffer.normal_(0, 0.2)
        for parameter in model.slimming_parameters():
            parameter.normal_(0, 3)
        model.classifier.weight.normal_(0, 1)
    return model.eval()


@pytest.fixture(
    params=[ONE_GATE, TWO_GATES, TWO_GATES.with_routes([[0, 2], [1, 2]])],
    ids=["one gate", "two gates", "two gates, some routes"],
)
def network(request: pytest.FixtureRequest) -> DSNet:
    return random_network(request.param)


def make_table(
    losses: Sequence[Sequence[float]] | torch.Tensor,
    madds: Sequence[float],
    features: torch.Tensor | None = None,
    top1: torch.Tensor | None = None,
) -> RoutingTable:
    """A table of one gate. A path is right where it loses less than 1, unless `top1` says else."""
    losses = torch.as_tensor(losses, dtype=torch.float32)
    n, routes = losses.shape
    counts = torch.tensor(madds, dtype=torch.float64)
    right = losses < 1 if top1 is None else top1
    return RoutingTable(
        task=CLASSIFICATION,
        paths=Paths((routes,), counts, ((counts / counts.max()).float(),)),
        features=((torch.ones(n, 1) if features is None else features)[:, None],),
        losses=losses,
        measures={"top1": right, "top5": torch.ones_like(right)},
        confidences=(-losses).exp(),
        labels=torch.zeros(n, dtype=torch.int64),
        samples=torch.arange(n),
        views=torch.zeros(n, dtype=torch.int64),
    )
