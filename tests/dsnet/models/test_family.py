"""A family is a stem, a block and a line that registers it; the rest of dsnet takes it as it is.

The toy family here is known to no file of dsnet: a dense 3x3 convolution on either side of a gate.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, InputError, Predictor
from dsnet.models import registry
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.block import Block, Stem
from dsnet.nn.gate import Gate
from dsnet.nn.layers import Shape, SlimBatchNorm2d, SlimConv2d, strided
from dsnet.nn.plan import Layer, plain_conv
from dsnet.routing import build_rows
from dsnet.training import bootstrap_step, freeze_trunk, gate_step, make_teacher, recalibrate
from tests.dsnet.conftest import randomize, varied_images


class ToyStem(Stem):
    """3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, stage: Stage, pool: bool):
        super().__init__(stage, pool)
        self.conv = SlimConv2d(3, stage.channels[-1], stage.kernel, stage.stride)
        self.bn = SlimBatchNorm2d(stage.channels)

    def forward(self, images: Tensor, channels: int) -> Tensor:
        return F.relu(self.bn(self.conv(images, channels)))

    def madds(self, channels: int, size: Shape) -> tuple[int, Shape]:
        size = strided(size, self.conv.stride)
        return self.conv.madds(3, channels, size), size

    def plan(self, channels: int) -> list[Layer]:
        return [plain_conv(self.conv, self.bn, 3, channels, "relu")]


class ToyBlock(Block):
    """Dense 3x3 convolution, gate, dense 3x3 convolution."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        stage: Stage,
        stride: int,
        routes: int,
    ):
        super().__init__(inputs, outputs, stage, stride, routes)
        self.first = SlimConv2d(inputs[-1], inputs[-1], stage.kernel, stride)
        self.bn1 = SlimBatchNorm2d(inputs)
        self.gate = Gate(inputs[-1], routes)
        self.second = SlimConv2d(inputs[-1], outputs[-1], stage.kernel)
        self.bn2 = SlimBatchNorm2d(outputs)

    def before(self, x: Tensor, mixture: Tensor | None = None) -> Tensor:
        return F.relu(self.bn1(self.first(x, x.shape[1]), mixture))

    def after(self, x: Tensor, channels: int, mixture: Tensor | None = None) -> Tensor:
        return F.relu(self.bn2(self.second(x, channels), mixture))

    def plan_before(self, inputs: int) -> list[Layer]:
        return [plain_conv(self.first, self.bn1, inputs, inputs, "relu")]

    def plan_after(self, inputs: int, outputs: int) -> list[Layer]:
        return [plain_conv(self.second, self.bn2, inputs, outputs, "relu")]

    def madds(self, in_channels: int, out_channels: int, size: Shape) -> tuple[int, Shape]:
        size = strided(size, self.first.stride)
        count = self.first.madds(in_channels, in_channels, size)
        count += self.gate.madds(in_channels, size)
        return count + self.second.madds(in_channels, out_channels, size), size


TOY = Architecture(
    name="ds_toy",
    family="toy",
    stem=Stage((8, 12)),
    stages=(Stage((8, 12), stride=2), Stage((4, 8, 16), stride=2, gated=True), Stage((6, 8, 12))),
    num_classes=5,
    resolution=16,
)


@pytest.fixture
def toy() -> Iterator[DSNet]:
    """A network of the toy family, as after some training."""
    registry.register("toy", registry.Family(ToyStem, ToyBlock), [TOY])
    torch.manual_seed(0)
    yield randomize(dsnet.create_model("ds_toy")).float().eval()
    del registry.FAMILIES["toy"], registry.ARCHITECTURES["ds_toy"]


def test_its_slices_equal_its_masks(toy: DSNet) -> None:
    images = varied_images(6)
    x, _ = toy.segment(0, images, toy.space[0])
    for index, width in enumerate(toy.space):
        mixture = F.one_hot(torch.full((len(images),), index), len(toy.space)).float()
        masked, _ = toy.segment(1, x, toy.space.largest, mixture)
        logits = toy.classify(masked, toy.space.largest)
        torch.testing.assert_close(logits, toy(images, width=width), rtol=1e-4, atol=1e-4)


def test_its_multiply_adds_are_those_of_the_layers_that_run(toy: DSNet) -> None:
    """Counted from what convolutions see and give, the attention's two products, and poolings."""
    for width in toy.space:
        counted = 0

        def conv(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted
            counted += inputs[0].shape[1] * layer.kernel**2 * output[0].numel()

        def gate(layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
            nonlocal counted
            reduced = layer.reduce.out_features
            channels = inputs[0].shape[1]
            counted += inputs[0][0].numel() + 2 * channels * reduced

        hooks = [
            module.register_forward_hook(conv if isinstance(module, SlimConv2d) else gate)
            for module in toy.modules()
            if isinstance(module, SlimConv2d | Gate)
        ]
        pooled: list[Tensor] = []
        last = toy.block(len(toy.stages) - 1, 0)
        hooks.append(last.register_forward_hook(lambda *a, pooled=pooled: pooled.append(a[2])))
        toy(varied_images(1), width=width)
        for hook in hooks:
            hook.remove()
        counted += pooled[0].numel() + pooled[0].shape[1] * TOY.num_classes
        assert toy.madds(width) == counted


def test_it_is_trained_routed_recalibrated_and_written_down(toy: DSNet, tmp_path: Path) -> None:
    images, labels = varied_images(24), torch.randint(0, 5, (24,))
    student = dsnet.create_model("ds_toy").train()
    losses = bootstrap_step(student, make_teacher(student), images, labels, [1])
    assert all(loss.isfinite() for loss in losses.values())
    assert recalibrate(student, [images]) == 24

    logits, widths = toy.dynamic(images)
    assert len(widths.unique()) > 1
    for width in widths.unique().tolist():
        rows = widths == width
        torch.testing.assert_close(logits[rows], toy(images[rows], width=width))
    table = build_rows(toy, images, labels)
    for index in range(len(toy.space)):
        expected = F.cross_entropy(toy(images, width=index), labels, reduction="none")
        torch.testing.assert_close(table.losses[:, index], expected)

    loaded = dsnet.load(dsnet.save(toy, tmp_path / "toy"))
    assert torch.equal(loaded(images), toy(images))
    freeze_trunk(loaded)
    assert gate_step(loaded, images, labels)["loss"].isfinite()


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_it_is_folded_and_exported(toy: DSNet, backend: str) -> None:
    pixels = torch.randint(0, 256, (24, 16, 16, 3), dtype=torch.uint8)
    logits, widths = Predictor(toy, backend=backend)(pixels)
    images = dsnet.normalize(pixels, toy.metadata.mean, toy.metadata.std)
    assert torch.equal(widths, toy.route(images))
    torch.testing.assert_close(logits, toy(images), rtol=1e-3, atol=1e-3)


def test_a_name_that_is_taken_is_refused(toy: DSNet) -> None:
    taken = registry.Family(ToyStem, ToyBlock)
    with pytest.raises(InputError, match="toy taken"):
        registry.register("toy", taken)
    with pytest.raises(InputError, match=r"family other, found ds_strange"):
        registry.register("other", taken, [TOY.__class__(**{**vars(TOY), "name": "ds_strange"})])
