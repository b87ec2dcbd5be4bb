"""What is said when a stage ends: in its task's own measure, and only what it reported."""

from typing import Any

import pytest

from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import CLASSIFICATION
from pipeline.config import config_from_dict
from pipeline.runner.summary import summary
from pipeline.training.losses import Against

PSNR = Measure("psnr", "PSNR", unit="dB")


def counts(name: str, static: list[float], routed: float, picked: list[int]) -> dict[str, Any]:
    return {
        "images": 200,
        "static": {"values": {name: static}, "squares": {}},
        "routed": {"values": {name: [routed]}, "squares": {}},
        "picked": picked,
        "spent": None,
    }


SUPERNET = {
    "epoch": 24,
    "step": 1080,
    "loss": {"largest": 0.25, "random_0": 0.75, "smallest": 0.5},
    "evaluation": counts("top1", [180, 190, 196], 0, [0, 0, 0]),
    "throughput": {"images_per_second": 1234.4},
}


def test_losses_are_named_by_what_they_are_against() -> None:
    losses = {"largest": 2.0, "random_0": 1.0, "smallest": 0.5, "lr": 0.1}
    for section, words in (
        ({}, ("labels", "teacher or labels")),
        ({"supernet": {"bootstrap": "distill"}}, ("labels", "own widest or labels")),
        ({"supernet": {"bootstrap": "labels"}}, ("labels", "labels")),
        ({"model": {"arch": "ds_denoiser_48"}}, ("targets", "teacher or targets")),
    ):
        against = Against.of(config_from_dict(section))
        widest, slim = words
        assert against.named(losses) == {
            f"loss widest ({widest})": 2.0,
            f"loss random_0 ({slim})": 1.0,
            f"loss slimmest ({slim})": 0.5,
            "lr": 0.1,
        }
        said = f"loss 2.000 widest ({widest}), 0.500 slimmest ({slim})"
        assert against.in_words(losses) == said


@pytest.mark.parametrize(
    ("stage", "metrics", "seconds", "headline", "line"),
    [
        (
            "supernet",
            SUPERNET,
            92.0,
            CLASSIFICATION.headline,
            "supernet: done in 1:32, 24 epochs, 1,080 steps, loss 0.250 widest (labels), 0.500 "
            "slimmest (teacher or labels), top-1 90.00% slimmest, 98.00% widest on held-out "
            "images, 1,234 images/s",
        ),
        (
            "gate",
            {
                "epoch": 1,
                "train": {"loss": 0.125, "madds": 1e5},
                "evaluation": counts("psnr", [5000, 6000], 5800, [50, 150]),
            },
            5.0,
            PSNR,
            "gate: done in 5.0 s, 1 epoch, loss 0.125, PSNR 25.00 dB slimmest, 30.00 dB widest, "
            "29.00 dB dynamic on held-out images",
        ),
        (
            "evaluate",
            {"evaluation": counts("top1", [180, 190], 188, [100, 100])},
            3700.0,
            CLASSIFICATION.headline,
            "evaluate: done in 1:01:40, top-1 90.00% slimmest, 95.00% widest, 94.00% dynamic "
            "on test images",
        ),
        (
            "gate",
            {"top1": 0.9, "top5": 1.0, "average_madds": 150000.0},
            4.0,
            CLASSIFICATION.headline,
            "gate: done in 4.0 s, top-1 90.00% dynamic on held-out images",
        ),
        ("table", {"rows": 100}, 20.0, CLASSIFICATION.headline, "table: done in 0:20"),
    ],
    ids=["supernet", "gate", "evaluate", "gate by table", "table"],
)
def test_a_stage_ends_in_one_line(
    stage: str, metrics: dict[str, Any], seconds: float, headline: Measure, line: str
) -> None:
    assert summary(stage, metrics, seconds, headline) == line
