"""The official procedure that stage I's steps are timed against trains the same network."""

import pytest
import torch

from jobs.bench.supernet import OFFICIAL, PLAIN, Case, group_of_one, training

CASE = Case("ds_mbnet_digits", 10, 8, 16, steps=20)
Losses = list[dict[str, torch.Tensor]]


def assert_close(found: Losses, expected: Losses, tolerance: float) -> None:
    assert len(found) == len(expected) == CASE.steps
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.keys() == theirs.keys()
        for name, loss in theirs.items():
            assert float(ours[name]) == pytest.approx(float(loss), rel=tolerance), (step, name)


def test_over_twenty_steps_the_losses_are_those_of_the_official_procedure() -> None:
    with group_of_one():
        assert_close(training(CASE, PLAIN)(), training(CASE, OFFICIAL)(), 1e-3)
