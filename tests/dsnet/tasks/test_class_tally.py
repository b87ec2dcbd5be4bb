"""A classifier's answers, counted, against sums over single images."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsnet.tasks.class_tally import BINS, ClassTally
from dsnet.tasks.registry import CLASSIFICATION
from tests.toy import SMOOTHING


def counted(logits: torch.Tensor, targets: torch.Tensor, batch: int) -> ClassTally:
    tally = ClassTally(logits.shape[1])
    for at in range(0, len(logits), batch):
        tally.add(logits[at : at + batch], targets[at : at + batch])
    return tally


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**31))
def test_it_is_the_sum_over_images_whatever_the_batches(
    images: int, classes: int, batch: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, generator=random)
    targets = torch.randint(classes, (images,), generator=random)
    tally = counted(logits, targets, batch)
    confusion = [[0] * classes for _ in range(classes)]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row, target in zip(logits.double(), targets.tolist(), strict=True):
        weights = [math.exp(value) for value in row.tolist()]
        answer = weights.index(max(weights))
        confidence = max(weights) / sum(weights)
        confusion[target][answer] += 1
        bins[min(int(confidence * BINS), BINS - 1)].append((confidence, answer == target))
    assert tally.confusion.tolist() == confusion
    assert int(tally.images.sum()) == images
    error = sum(abs(sum(right for _, right in b) - sum(c for c, _ in b)) for b in bins) / images
    assert tally.calibration_error() == pytest.approx(error, abs=1e-9)
    for index, row in enumerate(confusion):
        share = row[index] / sum(row) if sum(row) else None
        found = tally.figures([])["accuracy_by_class"][str(index)]
        assert found == (share if share is None else pytest.approx(share))


def test_figures_are_json_and_name_the_classes() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [9.0, 0.0, 0.0]])
    figures = counted(logits, torch.tensor([0, 1, 1]), 2).figures(["cat", "dog", "owl"])
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["accuracy_by_class"] == {"cat": 1.0, "dog": 0.5, "owl": None}
    assert figures["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_classifiers_have_one_and_what_measures_tell_alone_has_none() -> None:
    assert isinstance(CLASSIFICATION.tally(3), ClassTally)
    assert SMOOTHING.tally(3) is None
