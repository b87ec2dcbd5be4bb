"""What a denoiser is trained with and measured by."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from dsnet.errors import InputError
from dsnet.tasks.denoise import Denoise
from dsnet.tasks.noise import Noise
from dsnet.tasks.registry import find

GREY = torch.full((4, 3, 64, 64), 128 / 255)


def keys(count: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + count) * 7919


def deviations(noisy: Tensor, clean: Tensor) -> Tensor:
    """Of each picture, of 255."""
    return 255 * (noisy - clean).double().flatten(1).std(1)


def splitmix64(z: int) -> int:
    """By Python's own whole numbers."""
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@given(key=st.integers(-(2**63), 2**63 - 1), level=st.floats(1, 60))
@settings(max_examples=20, deadline=None)
def test_a_pixels_noise_is_box_and_mullers_of_its_hash(key: int, level: float) -> None:
    clean = torch.full((1, 3, 2, 2), 0.5)
    noisy = Noise(level, level).on(clean, torch.tensor([key]))
    for place, value in enumerate(noisy.flatten().tolist()):
        bits = splitmix64((splitmix64(key % 2**64) + place * 0x9E3779B97F4A7C15) % 2**64)
        first, second = (bits >> 40) / 2**24, (bits & 0xFFFFFF) / 2**24
        drawn = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
        # Rounded to whole 255ths: one more or less where single precision decides.
        assert abs(value * 255 - min(max(127.5 + level * drawn, 0), 255)) <= 0.5 + 1e-3


@pytest.mark.parametrize("level", [5.0, 25.0])
def test_its_deviation_is_the_level_and_no_two_pictures_share_it(level: float) -> None:
    noisy = Noise(level, level).on(GREY, keys(4))
    # Of 12,288 numbers a deviation is known to 0.64%, and rounding adds a twelfth to its square.
    wanted = math.sqrt(level**2 + 1 / 12)
    assert deviations(noisy, GREY) == pytest.approx([wanted] * 4, rel=0.03)
    flat = (noisy - GREY).flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.05


def test_the_same_key_gives_the_same_noise_in_any_batch_and_order() -> None:
    noise = Noise(5, 50, 10)
    clean = torch.rand(6, 3, 9, 13)
    together = noise.on(clean, keys(6))
    order = torch.tensor([4, 0, 5])
    assert torch.equal(noise.on(clean[order], keys(6)[order]), together[order])
    assert torch.equal(noise.on(clean[3:4], keys(6)[3:4]), together[3:4])
    assert not torch.equal(noise.on(clean, keys(6, 6)), together)


def test_a_range_of_levels_is_drawn_evenly() -> None:
    levels = Noise(10, 50).levels(keys(4000)).double()
    assert levels.min() >= 10 and levels.max() < 50
    assert float(levels.mean()) == pytest.approx(30, abs=4 * 40 / math.sqrt(12 * 4000))
    few = Noise(10, 50)
    assert deviations(few.on(GREY, keys(4)), GREY) == pytest.approx(
        few.levels(keys(4)).tolist(),
        rel=0.1,  # the widest are cut at 0 and 255
    )


def test_light_adds_variance_as_it_gets_brighter() -> None:
    noise = Noise(0, 0, shot=200)
    for intensity in (0.25, 0.75):
        clean = torch.full((1, 3, 64, 64), intensity)
        wanted = math.sqrt(200 * intensity + 1 / 12)
        assert deviations(noise.on(clean, keys(1)), clean) == pytest.approx([wanted], rel=0.03)


def test_a_noisy_picture_is_one_that_a_file_can_hold() -> None:
    """The same bytes, normalised by the predictor, are the same numbers."""
    clean = torch.rand(2, 3, 20, 20)
    noisy = Noise(40, 40).on(clean, keys(2))
    pixels = (noisy * 255).round().to(torch.uint8)
    assert torch.equal(pixels.float() * (1 / 255), noisy)


@given(
    height=st.integers(11, 40),
    width=st.integers(11, 40),
    seed=st.integers(0, 2**32 - 1),
    level=st.floats(1, 80),
)
@settings(max_examples=25, deadline=None)
def test_psnr_and_ssim_are_scikit_images(height: int, width: int, seed: int, level: float) -> None:
    random = np.random.default_rng(seed)
    clean = random.random((height, width, 3))
    other = (clean + level / 255 * random.standard_normal(clean.shape)).clip(0, 1)
    first, second = (
        torch.from_numpy(each).permute(2, 0, 1)[None].float() for each in (other, clean)
    )
    found = Denoise().measure(first, second)
    assert float(found["psnr"]) == pytest.approx(
        peak_signal_noise_ratio(clean, other, data_range=1), abs=1e-3
    )
    assert float(found["ssim"]) == pytest.approx(
        structural_similarity(
            clean,
            other,
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        ),
        abs=1e-4,
    )


def test_closed_forms_of_what_is_measured() -> None:
    task, clean = Denoise(), torch.full((1, 3, 16, 16), 0.5)
    assert float(task.measure(clean + 0.1, clean)["psnr"]) == pytest.approx(20)
    assert float(task.measure(clean, clean)["psnr"]) == pytest.approx(100)
    assert float(task.measure(clean, clean)["ssim"]) == pytest.approx(1)
    assert float(task.measure(clean + 9, clean)["psnr"]) == pytest.approx(-20 * math.log10(0.5))
    assert float(task.loss(clean + 0.1, clean)) == pytest.approx(-20, abs=1e-3)
    assert float(task.loss(clean, clean)) == pytest.approx(-60)


def test_a_picture_is_easy_where_the_slimmest_comes_near_the_widest() -> None:
    slim, wide = {"psnr": torch.tensor([30.0, 30.0])}, {"psnr": torch.tensor([30.05, 30.5])}
    assert Denoise().easy(slim, lambda: wide).tolist() == [True, False]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Noise(25, 25)),
        ({"noise": 15}, Noise(15, 15)),
        ({"noise": [5, 50]}, Noise(5, 50)),
        ({"noise": 0, "shot": 3}, Noise(0, 0, 3)),
    ],
)
def test_a_configuration_sets_the_noise(settings: dict[str, object], expected: Noise) -> None:
    task = find("denoise").configured(settings)
    assert isinstance(task, Denoise) and task.noise == expected
    again = task.configured(task.settings())
    assert isinstance(again, Denoise) and again.noise == expected


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"noise": [50, 5]}, "two that rise"),
        ({"noise": [1, 2, 3]}, "two that rise"),
        ({"noise": 300}, "of 0 to 255"),
        ({"noise": "loud"}, "task.noise: expected finite numbers"),
        ({"noise": True}, "task.noise: expected finite numbers"),
        ({"noise": 0}, "some noise"),
        ({"shot": -1}, "task.shot"),
        ({"sigma": 25}, r"expected noise and shot, found \['sigma'\]"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        find("denoise").configured(settings)


def test_a_task_without_settings_takes_none() -> None:
    classification = find("classification")
    assert classification.configured({}) is classification
    with pytest.raises(InputError, match="classification has no settings"):
        classification.configured({"noise": 25})
