"""Every sum over images is what NumPy has for the same images, for shares and for decibels."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import dsnet
from dsnet import DSNet
from dsnet.tasks.base import Task
from pipeline.data.sources import open_source
from pipeline.runner.job import headline
from pipeline.training.evaluation import Evaluation, by_width, evaluate
from tests.dsnet.conftest import randomize
from tests.toy import SMOOTHING, TOY_SMOOTHING, toys_known

BATCH = 70


@pytest.fixture
def toy() -> Iterator[DSNet]:
    """A network that answers with pictures, every statistic and gate of it random."""
    with toys_known():
        torch.manual_seed(0)
        yield randomize(DSNet(TOY_SMOOTHING)).float().eval()


@pytest.fixture
def classifier() -> DSNet:
    torch.manual_seed(0)
    return randomize(dsnet.create_model("ds_mbnet_digits", 10)).float().eval()


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """360 normalised images and their labels."""
    source = open_source("digits", "test")
    samples = [source[index] for index in range(len(source))]
    pixels = torch.from_numpy(np.stack([np.asarray(sample.image) for sample in samples]))
    labels = torch.tensor([sample.label for sample in samples])
    return dsnet.normalize(pixels, (0.5,) * 3, (0.25,) * 3), labels


def pairs(task: Task, digits: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The task's, in batches."""
    for images, labels in zip(*(part.split(BATCH) for part in digits), strict=True):
        yield task.pair(images, labels, torch.arange(len(images)))


def measured(
    model: DSNet, digits: tuple[Tensor, Tensor]
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """By measure, the value of each image for every sub-network and last for the dynamic one.

    With them the width that each image took. Each batch and each width runs on its own.
    """
    found: dict[str, list[list[np.ndarray]]] = {}
    widths = []
    for inputs, targets in pairs(model.task, digits):
        with torch.inference_mode():
            outputs = [model(inputs, width=width) for width in range(len(model.space))]
            routed, picked = model.dynamic(inputs)
            for index, each in enumerate([*outputs, routed]):
                for name, values in model.task.measure(each, targets).items():
                    rows = found.setdefault(name, [[] for _ in range(len(outputs) + 1)])
                    rows[index].append(values.double().numpy())
        widths.append(picked.numpy())
    return {k: [np.concatenate(row) for row in v] for k, v in found.items()}, np.concatenate(widths)


def test_decibels_are_summed_with_their_squares(toy: DSNet, digits: tuple[Tensor, Tensor]) -> None:
    expected, widths = measured(toy, digits)
    found = evaluate(toy, pairs(toy.task, digits))
    n = len(toy.space)
    assert found.images == 360
    assert list(found.picked) == np.bincount(widths, minlength=n).tolist()
    assert len(set(widths.tolist())) > 1
    for name, rows in expected.items():
        sums = [*found.static.values[name], *found.routed.values[name]]
        squares = [*found.static.squares[name], *found.routed.squares[name]]
        assert sums == pytest.approx([row.sum() for row in rows], rel=1e-6)
        assert squares == pytest.approx([np.square(row).sum() for row in rows], rel=1e-6)
    rows = found.rows(toy)
    assert [row.name for row in rows] == [*(f"width {i}" for i in range(n)), "dynamic"]
    for row, psnr, mae in zip(rows, expected["psnr"], expected["mae"], strict=True):
        assert row.value == row.measures["psnr"] == pytest.approx(psnr.mean(), rel=1e-6)
        assert row.measures["mae"] == pytest.approx(mae.mean(), rel=1e-6)
        assert row.stderr == pytest.approx(psnr.std(ddof=1) / 360**0.5, rel=1e-4)
    assert rows[-1].madds == pytest.approx(np.mean([toy.madds(int(i)) for i in widths]))
    assert headline(found, toy) == {
        "psnr": rows[-1].value,
        "mae": rows[-1].measures["mae"],
        "average_madds": rows[-1].madds,
        "psnr_stderr": rows[-1].stderr,
    }


def test_shares_are_counted(classifier: DSNet, digits: tuple[Tensor, Tensor]) -> None:
    expected, _ = measured(classifier, digits)
    found = evaluate(classifier, pairs(classifier.task, digits))
    for name in ("top1", "top5"):
        counts = [*found.static.values[name], *found.routed.values[name]]
        assert counts == [int(row.sum()) for row in expected[name]]
        assert all(type(count) is int for count in counts)
    assert found.static.squares == found.routed.squares == {}
    dynamic = found.rows(classifier)[-1]
    right = expected["top1"][-1].mean()
    assert dynamic.value == right
    assert dynamic.stderr == pytest.approx((right * (1 - right) / 360) ** 0.5)
    assert headline(found, classifier).keys() == {"top1", "top5", "average_madds"}


@pytest.mark.parametrize("routed", [True, False])
def test_an_evaluation_is_read_back_as_it_was_written(
    toy: DSNet, digits: tuple[Tensor, Tensor], routed: bool
) -> None:
    found = evaluate(toy, pairs(SMOOTHING, digits), routed=routed)
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert len(found.rows(toy)) == len(toy.space) + routed


def test_every_measure_is_reported_by_width_under_its_own_name(
    toy: DSNet, digits: tuple[Tensor, Tensor]
) -> None:
    rows = evaluate(toy, pairs(SMOOTHING, digits), routed=False).rows(toy)
    assert by_width(rows) == {
        name: {row.name: row.measures[name] for row in rows} for name in ("psnr", "mae")
    }
