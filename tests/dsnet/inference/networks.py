"""Random small networks of every family, with weights and gates that tell their routes apart."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from dsnet import DSNet, Metadata, normalize
from dsnet.models.architecture import Architecture, Stage
from dsnet.nn.layers import SlimBatchNorm2d
from dsnet.training import recalibrate


@st.composite
def architectures(draw: st.DrawFn, gates: tuple[int, int] = (1, 3)) -> Architecture:
    """Any family, up to three gates, any routes; at most 12 joint paths, for the tests' sake."""

    def stage(count: int, gated: bool) -> Stage:
        start = draw(st.integers(1, 4)) * 4
        steps = draw(st.lists(st.integers(1, 3), min_size=count - 1, max_size=count - 1))
        channels = tuple(start + 4 * sum(steps[:i]) for i in range(count))
        blocks, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        return Stage(channels, blocks, stride, draw(st.sampled_from((1, 3))), gated)

    widths = draw(st.integers(1, 2))
    stem = Stage(tuple(range(4, 4 + 4 * widths, 4)), stride=draw(st.integers(1, 2)))
    count = draw(st.integers(*gates))
    first = draw(st.integers(0 if count else 1, 1))
    stages = [stage(widths, False) for _ in range(first)]
    routes = []
    for _ in range(count):
        widths = draw(st.integers(1, 3))
        stages += [stage(widths, True)]
        stages += [stage(widths, False) for _ in range(draw(st.integers(0, 1)))]
        choice = st.lists(st.integers(0, widths - 1), min_size=1, max_size=2, unique=True)
        routes.append(tuple(sorted(draw(choice))))
    return Architecture(
        name="random",
        family=draw(st.sampled_from(("mbnet", "resnet", "basic_resnet"))),
        stem=stem,
        stages=tuple(stages),
        num_classes=draw(st.integers(1, 6)),
        routes=tuple(routes),
        resolution=draw(st.sampled_from((8, 13, 16))),
    )


def network(architecture: Architecture, seed: int) -> DSNet:
    """A network in eval mode as after some training; its gates pick every route for some image."""
    torch.manual_seed(seed)
    metadata = Metadata(
        resolution=architecture.resolution,
        mean=(0.3, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
    )
    model = DSNet(architecture, metadata)
    with torch.no_grad():
        _settle(model)
    return model.eval()


def _settle(model: DSNet) -> None:
    norms = [module for module in model.modules() if isinstance(module, SlimBatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.2)
    model.classifier.weight.normal_(0, 0.5)
    x = normalize(pictures(model, 32), model.metadata.mean, model.metadata.std)
    recalibrate(model, [x])
    for norm in norms:
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    model.eval()
    for index, gate in enumerate(model.gates):
        y, feature = x, None
        for segment in range(index + 1):
            y, feature = model.segment(segment, y, model.space[model.space.routes[0]])
        assert feature is not None and gate.slimming is not None
        # No route is ahead on average, so that each of them is picked for some images.
        mean = feature.mean(0)
        weight = torch.randn_like(gate.slimming.weight)
        weight -= torch.outer(weight @ mean, mean) / mean.square().sum().clamp_min(1e-9)
        spread = (feature @ weight.T).std().clamp_min(1e-3)
        gate.slimming.weight.copy_(weight / spread)


def pictures(model: DSNet, count: int) -> Tensor:
    """uint8 (count, R, R, 3): noise of different colour, brightness and contrast."""
    size = model.metadata.resolution
    level, contrast = torch.rand(count, 1, 1, 3), torch.rand(count, 1, 1, 1)
    noise = level + contrast * (torch.rand(count, size, size, 3) - 0.5)
    return (noise.clamp(0, 1) * 255).to(torch.uint8)


@torch.no_grad()
def margins(model: DSNet, images: Tensor, price: float) -> Tensor:
    """How far apart the two best routes are at the closest of each image's choices: (N,)."""
    found = torch.full((len(images),), math.inf)
    for row in range(len(images)):
        x = normalize(images[row : row + 1], model.metadata.mean, model.metadata.std)
        path: tuple[int, ...] = ()
        for index, gate in enumerate(model.gates):
            slim = (0,) * (len(model.gates) - index)
            x, reduced = model.segment(index, x, model.space[model.space.index_of(path + slim)])
            assert reduced is not None and gate.slimming is not None
            scores = (gate.logits(reduced) - price * model.gate_costs()[index])[0]
            if len(scores) > 1:
                first, second = scores.topk(2).values.tolist()
                # Large logits of different sign cancel, and leave larger errors behind.
                size = float((gate.slimming.weight.abs() @ reduced[0]).max()) + abs(price)
                found[row] = min(float(found[row]), (first - second) / max(1.0, size))
            path += (model.space.choices[index][int(scores.argmax())],)
    return found
