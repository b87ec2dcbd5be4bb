"""Mixed pictures: targets that sum to 1, and say how the pixels were mixed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsnet.tasks.registry import CLASSIFICATION
from pipeline.data.augment.mixing import Mixing
from pipeline.data.random_bits import random_key

CLASSES = 12
SETTINGS = st.sampled_from([(0.2, 0.0), (0.0, 1.0), (0.8, 1.0)])


def mixing(how: tuple[float, float], epoch: int = 0, first: int = 0) -> Mixing:
    return Mixing(*how, random_key(0, epoch, 0), first)


@settings(max_examples=60)
@given(SETTINGS, st.integers(0, 10**6), st.integers(1, 9))
def test_targets_sum_to_1_and_are_the_pixels_shares(
    how: tuple[float, float], epoch: int, count: int
) -> None:
    """Each picture has a value of its own all over: its share is read from the mixed pixels."""
    values = torch.arange(1.0, count + 1)
    images = values[:, None, None, None].expand(count, 3, 16, 16).clone()
    labels = torch.arange(count)
    mixed, targets = mixing(how, epoch).of(images, labels, CLASSES)
    assert torch.equal(images[:, 0, 0, 0], values)  # as they were
    assert targets.sum(1) == pytest.approx(torch.ones(count))
    kept = targets[torch.arange(count), labels]
    expected = kept * values + (1 - kept) * values.flip(0)
    assert mixed.mean((1, 2, 3)) == pytest.approx(expected, abs=1e-4)
    partners = targets[torch.arange(count), labels.flip(0)]
    middle = labels == labels.flip(0)
    assert (kept + partners)[~middle] == pytest.approx(torch.ones(int((~middle).sum())))
    assert (kept[middle] == 1).all()


def test_cutmix_takes_a_rectangle_and_mixup_every_pixel() -> None:
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    cut = [mixing((0.0, 1.0), e).of(images, torch.arange(2), 2)[0][0, 0] for e in range(40)]
    for picture in cut:
        rows, columns = picture.any(1), picture.any(0)
        assert torch.equal(picture.bool(), rows[:, None] & columns)
    blended = [mixing((0.4, 0.0), e).of(images, torch.arange(2), 2)[0][0] for e in range(40)]
    assert all(len(picture.unique()) == 1 for picture in blended)


def test_lambda_follows_beta_and_half_of_the_batches_are_cut() -> None:
    images, labels = torch.zeros(2, 3, 64, 64), torch.arange(2)
    images[1] = 1
    shares = np.array(
        [mixing((0.4, 0.0), 0, n).of(images, labels, 2)[1][0, 0].item() for n in range(2000)]
    )
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=4 * shares.std() / len(shares) ** 0.5)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), rel=0.1)
    both = [mixing((1.0, 1.0), 0, n).of(images, labels, 2)[0] for n in range(400)]
    cut = sum(len(picture[0].unique()) == 2 for picture in both)
    assert 200 - 5 * 10 < cut < 200 + 5 * 10  # binomial: a standard deviation of 10; some are empty


def test_the_same_batch_is_mixed_the_same_and_others_otherwise() -> None:
    images = torch.rand(4, 3, 8, 8)
    labels = torch.arange(4)
    drawn = torch.get_rng_state()
    one, other = (mixing((0.2, 1.0), 3, 17).of(images, labels, 4) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.equal(one[1], mixing((0.2, 1.0), 3, 18).of(images, labels, 4)[1])
    assert not torch.equal(one[1], mixing((0.2, 1.0), 4, 17).of(images, labels, 4)[1])


def test_labels_stay_where_they_are_not_learned() -> None:
    labels = torch.arange(4)
    images = torch.rand(4, 3, 8, 8)
    mixed, same = mixing((0.2, 0.0)).of(images, labels, None)
    assert same is labels and not torch.equal(mixed, images)


@given(st.floats(0, 0.5))
def test_the_loss_of_mixed_targets_is_the_mixed_loss_of_labels(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, CLASSES), torch.randint(0, CLASSES, (6,))
    kept = 0.3
    ours = torch.nn.functional.one_hot(labels, CLASSES)
    targets = kept * ours + (1 - kept) * ours.flip(0)
    found = CLASSIFICATION.loss(logits, targets, smoothing)
    one, other = (CLASSIFICATION.loss(logits, each, smoothing) for each in (labels, labels.flip(0)))
    torch.testing.assert_close(found, kept * one + (1 - kept) * other)
