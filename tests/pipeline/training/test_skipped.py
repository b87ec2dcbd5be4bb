"""Steps that are not finite are skipped; too many of them send a training back, once."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dsnet.errors import DivergenceError
from dsnet.training import GradientReducer
from tests.pipeline.training.made import BATCHES, differing, made, small_config


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_that_is_not_finite_moves_nothing(
    optimizer: str, wrong: int, tmp_path: Path
) -> None:
    training = made(tmp_path / "run", small_config(optimizer, clip_grad=1.0)).poisoned(wrong.__eq__)
    inner, seen = training.algorithm.step, {}

    def step(
        images: Tensor, labels: Tensor, now: int, reducer: GradientReducer | None
    ) -> dict[str, Tensor]:
        seen[now] = training.everything()
        return inner(images, labels, now, reducer)

    training.algorithm.step = step  # type: ignore[method-assign]
    training.run()
    before, after = seen[wrong], seen[wrong + 1]
    # AdamW makes its state at the first step; a skipped one leaves zeros.
    assert differing(before, {name: after[name] for name in before}) == []
    assert all(not after[name].any() for name in after.keys() - before.keys())
    assert differing(seen[wrong + 1], seen[wrong + 2]) != []
    assert [report["skipped"] for report in training.reports] == [1, 0]
    assert all(torch.isfinite(tensor).all() for tensor in training.everything().values())
    assert all(abs(loss) < 100 for loss in training.reports[0]["losses"].values())


def test_too_many_send_it_back_to_its_checkpoint_with_half_the_rate_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def wrong(now: int) -> bool:
        """The second epoch's steps, at first."""
        if now == BATCHES:
            tries.append(now)
        return now >= BATCHES and len(tries) < 2

    training = made(tmp_path / "run", small_config()).poisoned(wrong)
    with caplog.at_level(logging.WARNING):
        training.run()
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"is not finite at step {BATCHES + 1}" in line
    assert "back to epoch 1, step 0, with half the learning rate" in line
    undisturbed = made(tmp_path / "whole", small_config()).run()
    assert [report["skipped"] for report in training.reports] == [0, 0]
    assert training.reports[0] == undisturbed.reports[0]
    assert training.reports[1]["lr"] == undisturbed.reports[1]["lr"] / 2


def test_the_second_time_it_ends_and_says_which_width_and_when(tmp_path: Path) -> None:
    training = made(tmp_path / "run", small_config()).poisoned(lambda now: now >= BATCHES)
    with pytest.raises(DivergenceError, match=rf"width.* is not finite at step {BATCHES + 1}"):
        training.run()
    # Killed and started again, it does not get a third try.
    kept = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert (kept["epoch"], kept["lr_scale"]) == (1, 0.5)
    again = made(tmp_path / "run", small_config()).poisoned(lambda now: now >= BATCHES)
    with pytest.raises(DivergenceError):
        again.run()
    assert again.reports == []


def test_without_a_checkpoint_it_goes_back_to_its_beginning(tmp_path: Path) -> None:
    tries = []

    def wrong(now: int) -> bool:
        if now == 0:
            tries.append(now)
        return len(tries) < 2

    training = made(tmp_path / "run", small_config()).poisoned(wrong).run()
    assert [report["skipped"] for report in training.reports] == [0, 0]
    assert len(tries) == 2
