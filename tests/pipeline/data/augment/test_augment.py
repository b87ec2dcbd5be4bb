"""What a recipe has beyond the decoder: strengths, repeatability, what is erased."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from pipeline.config.recipe import RandAugment
from pipeline.data.augment import color_jitter, erasing
from pipeline.data.augment.augmentation import Augmentation
from pipeline.data.augment.randaugment import (
    _FUNCTIONS,
    OPERATIONS,
    RANDOM,
    draw,
    parameters,
    strength,
)
from pipeline.data.augment.recipes import get_recipe
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest
from pipeline.data.random_bits import random_key
from pipeline.data.threads import torch_threads
from tests.pipeline.data.conftest import smooth_picture

SIDE = 48
PICTURES = torch.from_numpy(np.stack([smooth_picture(SIDE, SIDE, seed) for seed in range(6)]))
PAPER = get_recipe("paper")
GREY = (0.5, 0.5, 0.5)


def of_torchvision(operation: str, images: Tensor, amount: float) -> Tensor:
    """The operation as torchvision's own RandAugment carries it out."""
    if operation == "Solarize":
        amount /= 255
    apply: Callable[..., Tensor] = v2.RandAugment()._apply_image_or_video_transform
    return apply(images, operation, amount, v2.InterpolationMode.NEAREST, {Tensor: None})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operations_strengths_are_torchvisions_counted_to_10(operation: str) -> None:
    magnitudes, _ = v2.RandAugment._AUGMENTATION_SPACE[operation]
    theirs = magnitudes(31, SIDE, SIDE)
    ours = strength(operation, np.arange(31) / 3, SIDE)
    if theirs is None:
        assert not ours.any()
        return
    expected = theirs.double().numpy()
    expected = {"Solarize": 255 * expected}.get(operation, expected)
    if operation.startswith("Translate"):
        expected = np.trunc(expected)  # as it is when it is carried out
    assert ours == pytest.approx(expected, abs=1e-4)


def test_the_strengths_of_magnitude_9() -> None:
    nine = {name: float(strength(name, np.array([9.0]), 331)[0]) for name in OPERATIONS}
    expected = {"ShearX": 0.27, "TranslateY": 135, "Rotate": 27, "Color": 0.81}
    expected |= {"Posterize": 4, "Solarize": 25.5, "Equalize": 0}
    assert {name: nine[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_an_operation_is_torchvisions_for_each_picture(operation: str, sign: float) -> None:
    """But for the rounding of a blend, which theirs cuts off."""
    images = PICTURES.permute(0, 3, 1, 2).contiguous()
    amounts = strength(operation, np.linspace(2, 10, len(images)), SIDE)
    numbers = parameters(operation, amounts, np.full(len(images), sign), SIDE)
    function = _FUNCTIONS.get(operation, _FUNCTIONS["affine"])
    ours = function(images, torch.from_numpy(numbers.astype(np.float32)))
    _, signed = v2.RandAugment._AUGMENTATION_SPACE[operation]
    for image, amount, found in zip(images, amounts, ours, strict=True):
        value = int(amount) if operation == "Posterize" else float(amount) * (sign if signed else 1)
        expected = of_torchvision(operation, image, value)
        different = (found.int() - expected.int()).abs() > 1
        assert different.float().mean() < 0.005, operation  # a pixel's edge, where it is moved


def test_operations_are_drawn_as_often_and_as_strong_as_is_said() -> None:
    how = RandAugment(magnitude=9, magnitude_std=0.5, probability=0.5)
    count = 20_000
    random = np.random.default_rng(0).random((count, RANDOM))
    kinds, numbers = draw(how, random, SIDE)
    # Of fourteen operations one leaves a picture as it is, and of the others half are carried out.
    share = 0.5 * 13 / 14
    assert (kinds >= 0).mean() == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)
    factors = numbers[kinds == 0][:, 0] - 1  # of brightness, ±0.9 times a tenth of the level
    levels = np.abs(factors) / 0.09
    level = np.random.default_rng(1).normal(9, 0.5, 100_000).clip(0, 10)
    assert levels.mean() == pytest.approx(level.mean(), abs=5 * level.std() / len(levels) ** 0.5)
    assert levels.max() <= 10 + 1e-9
    assert (factors > 0).mean() == pytest.approx(0.5, abs=2.5 / len(factors) ** 0.5)


@given(st.floats(0, 1), st.integers(8, 400), st.integers(0, 2**32))
def test_what_is_erased_is_within_its_bounds(share: float, side: int, seed: int) -> None:
    random = np.random.default_rng(seed).random((50, erasing.RANDOM))
    found = erasing.boxes(share, random, side)
    top, left, height, width = found[found[:, 2] > 0].T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= side).all() and (left + width <= side).all()
    # Sides are rounded to pixels: each is off by half of one at most.
    low, high = erasing.AREA
    assert ((height + 0.5) * (width + 0.5) >= low * side**2).all()
    assert ((height - 0.5) * (width - 0.5) <= high * side**2).all()
    assert ((height - 0.5) / (width + 0.5) <= erasing.ASPECT[1]).all()
    assert ((height + 0.5) / (width - 0.5) >= erasing.ASPECT[0]).all()


def test_a_rectangle_of_a_share_of_the_pictures_is_erased_and_nothing_else() -> None:
    count, share = 2000, 0.2
    random = np.random.default_rng(0).random((count, erasing.RANDOM))
    images = torch.zeros((count, 3, 16, 16), dtype=torch.uint8)
    erased = erasing.erase(images, share, (0.2, 0.4, 1.0), random)
    assert not images.any()
    found = erasing.boxes(share, random, 16)
    inside = erased[:, 2] == 255
    assert torch.equal(inside.sum((1, 2)), torch.from_numpy(found[:, 2] * found[:, 3]))
    assert torch.equal(erased[:, 0] == 51, inside) and torch.equal(erased[:, 1] == 102, inside)
    error = (share * (1 - share) / count) ** 0.5
    assert inside.any(2).any(1).float().mean() == pytest.approx(share, abs=4 * error)


def test_colour_jitter_is_torchvisions_functions_in_the_order_drawn() -> None:
    """The first picture's order is the first of six: brightness, contrast, saturation."""
    images = PICTURES[:1].permute(0, 3, 1, 2)
    jittered = color_jitter.color_jitter(images, 0.4, np.array([[0.0, 1.0, 0.75, 0.0]]))
    expected = images
    for function, factor in (
        (v2.functional.adjust_brightness, 0.6),
        (v2.functional.adjust_contrast, 1.4),
        (v2.functional.adjust_saturation, 1.2),
    ):
        expected = function(expected, factor)
    assert (jittered.int() - expected.int()).abs().max() <= 4  # three roundings, one enlarged
    same = color_jitter.color_jitter(images, 0.4, np.full((1, 4), 0.5))
    assert torch.equal(same, images)


def test_a_picture_does_not_depend_on_its_batch_or_on_threads() -> None:
    indices = np.arange(40)
    images = PICTURES[indices % len(PICTURES)]

    def augmented(part: slice, *parts: int) -> Tensor:
        """Parts: of the key; seed, epoch and view."""
        keys = np.full(len(indices[part]), random_key(*parts))
        return Augmentation(PAPER, keys, GREY).of(images[part], indices[part])

    everything = slice(None)
    whole = augmented(everything, 0, 3, 0)
    drawn = torch.get_rng_state()
    parts = [slice(0, 1), slice(1, 7), slice(7, 40)]
    with torch_threads(2):
        assert torch.equal(whole, torch.cat([augmented(part, 0, 3, 0) for part in parts]))
    assert torch.equal(torch.get_rng_state(), drawn)
    for other in ((0, 4, 0), (0, 3, 1), (1, 3, 0)):
        again = augmented(everything, *other)
        assert (again != whole).flatten(1).any(1).float().mean() > 0.9


def test_a_loader_augments_what_it_trains_on_and_nothing_else(photos_jpeg: Manifest) -> None:
    cpu = torch.device("cpu")

    def seen(train: bool = True, **how: Any) -> dict[int, bytes]:
        with Loader(
            photos_jpeg.beton,
            LoaderOptions(**{"recipe": "paper", "resolution": 32} | how, train=train),
        ) as at:
            return {
                int(index): image.numpy().tobytes()
                for batch in at.epoch(1, start=how.get("batch_size") == 4)
                for index, image in zip(batch.indices, batch.on(cpu), strict=True)
            }

    whole = seen(batch_size=1)
    # From the second batch on, as a training that goes on: the same pictures.
    rest = seen(batch_size=4, threads=2)
    assert len(rest) == 8
    assert all(whole[index] == pixels for index, pixels in rest.items())
    assert seen(batch_size=1, recipe="imagenet") != whole
    assert seen(False, batch_size=1) == seen(False, batch_size=1, recipe="imagenet")
