"""A family is a stem, a block, a head and a line that registers it; dsnet takes it as it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, InputError, Predictor
from dsnet.models import registry
from dsnet.nn.gate import Gate
from dsnet.nn.layers import SlimBatchNorm2d, SlimConv2d
from dsnet.routing import build_rows
from dsnet.training import bootstrap_step, freeze_trunk, gate_step, make_teacher, recalibrate
from tests.dsnet.conftest import randomize, varied_images
from tests.toy import TOY, TOY_SMOOTHING, ToyBlock, ToyStem, toys_known


@pytest.fixture(params=[TOY.name, TOY_SMOOTHING.name, "ds_denoiser_48"])
def toy(request: pytest.FixtureRequest) -> Iterator[DSNet]:
    """A network of a toy family, or of the one that answers with pictures, as after training."""
    with toys_known():
        torch.manual_seed(0)
        model = dsnet.create_model(request.param)
        model.metadata = replace(model.metadata, resolution=min(model.metadata.resolution, 24))
        yield randomize(model).float().eval()


def images_of(toy: DSNet, count: int) -> Tensor:
    return varied_images(count, toy.metadata.resolution)


def targets_of(toy: DSNet, images: Tensor) -> Tensor:
    return toy.task.pair(images, torch.arange(len(images)) % 5, torch.arange(len(images)))[1]


def test_its_slices_equal_its_masks(toy: DSNet) -> None:
    images = images_of(toy, 6)
    x, _ = toy.segment(0, images, toy.space[0])
    for index, width in enumerate(toy.space):
        mixture = F.one_hot(torch.full((len(images),), index), len(toy.space)).float()
        masked, _ = toy.segment(1, x, toy.space.largest, mixture)
        outputs = toy.answer(masked, images, toy.space.largest)
        torch.testing.assert_close(outputs, toy(images, width=width), rtol=1e-4, atol=1e-4)


def test_its_multiply_adds_are_those_of_the_layers_that_run(toy: DSNet) -> None:
    """Counted from what convolutions see and give, the attention's two products, and poolings."""
    for width in toy.space:
        counted = 0

        def conv(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted
            counted += inputs[0].shape[1] * layer.kernel**2 * output[0].numel()

        def gate(layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
            nonlocal counted
            channels = inputs[0].shape[1]
            counted += inputs[0][0].numel()
            if layer.reduce is not None:
                counted += 2 * channels * layer.reduce.out_features
            else:
                counted += inputs[0][0].numel()  # squares

        hooks = [
            module.register_forward_hook(conv if isinstance(module, SlimConv2d) else gate)
            for module in toy.modules()
            if isinstance(module, SlimConv2d | Gate)
        ]
        pooled: list[Tensor] = []
        last = toy.block(len(toy.stages) - 1, 0)
        hooks.append(last.register_forward_hook(lambda *a, pooled=pooled: pooled.append(a[2])))
        toy(images_of(toy, 1), width=width)
        for hook in hooks:
            hook.remove()
        if toy.task.labelled:
            counted += pooled[0].numel() + pooled[0].shape[1] * TOY.num_classes
        assert toy.madds(width) == counted


def test_it_counts_images_that_are_not_square(toy: DSNet) -> None:
    assert toy.madds(1, (8, 16)) * 2 == pytest.approx(toy.madds(1, 16), rel=0.05)
    assert toy.madds(1, (16, 16)) == toy.madds(1, 16)


def test_it_is_trained_routed_recalibrated_and_written_down(toy: DSNet, tmp_path: Path) -> None:
    images = images_of(toy, 24)
    targets = targets_of(toy, images)
    student = dsnet.create_model(toy.architecture.name).train()
    losses = bootstrap_step(student, make_teacher(student), images, targets, [1])
    assert all(loss.isfinite() for loss in losses.values())
    normalized = any(isinstance(module, SlimBatchNorm2d) for module in student.modules())
    assert recalibrate(student, [images]) == (24 if normalized else 0)

    outputs, widths = toy.dynamic(images)
    assert len(widths.unique()) > 1
    for width in widths.unique().tolist():
        rows = widths == width
        alone = toy(images[rows], width=width)
        torch.testing.assert_close(outputs[rows], alone, rtol=1e-5, atol=1e-4)
    assert toy(images[:0]).shape == (0, *outputs.shape[1:])
    table = build_rows(toy, images, targets)
    for index in range(len(toy.space)):
        expected = toy.task.loss(toy(images, width=index), targets)
        torch.testing.assert_close(table.losses[:, index], expected)

    loaded = dsnet.load(dsnet.save(toy, tmp_path / "toy"))
    assert torch.equal(loaded(images), toy(images))
    freeze_trunk(loaded)
    terms = gate_step(loaded, images, targets)
    assert terms["loss"].isfinite()
    assert terms.keys() >= {measure.name for measure in toy.task.measures}


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_it_is_folded_and_exported(toy: DSNet, backend: str) -> None:
    size = toy.metadata.resolution
    pixels = torch.randint(0, 256, (24, size, size, 3), dtype=torch.uint8)
    outputs, widths = Predictor(toy, backend=backend)(pixels)
    images = dsnet.normalize(pixels, toy.metadata.mean, toy.metadata.std)
    assert torch.equal(widths, toy.route(images))
    torch.testing.assert_close(outputs, toy(images), rtol=1e-3, atol=1e-3)
    assert Predictor(toy, backend=backend)(pixels[:0])[0].shape == (0, *outputs.shape[1:])


def test_a_name_that_is_taken_is_refused(toy: DSNet) -> None:
    taken = registry.Family(ToyStem, ToyBlock)
    with pytest.raises(InputError, match="toy taken"):
        registry.register("toy", taken)
    with pytest.raises(InputError, match=r"family other, found ds_strange"):
        registry.register("other", taken, [TOY.__class__(**{**vars(TOY), "name": "ds_strange"})])
