"""What a search tries: every target gets its share, the seed decides, what is kept comes back."""

import json
import math
import statistics
from pathlib import Path

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsnet.nn.gate import make_head
from dsnet.routing import Outcome
from dsnet.training.table_gate import TrainedGate
from pipeline.sweep.search import TargetSearch, optuna_search, optuna_space
from pipeline.sweep.trial import place_of, read_gate, write_gate
from pipeline.sweep.tuner import can_go_on, points, trials_of

from .conftest import NAMES, TARGETS, searched

LISTS = {"lr": [0.1, 0.01, 0.001], "lambda_sgs": [0.0, 1.0], "hidden": [0, 8]}


def test_a_grid_is_every_combination_for_every_target() -> None:
    config = searched(**LISTS)
    tried = points(config, TARGETS)
    assert len(tried) == len({json.dumps(point) for point in tried}) == 3 * 2 * 2 * len(NAMES)
    assert trials_of(config, TARGETS) == len(tried)
    assert {point["target"] for point in tried} == set(NAMES)


@given(samples=st.integers(1, 20), seed=st.integers(0, 1000))
def test_a_random_search_draws_different_points_of_the_grid_for_each_target(
    samples: int, seed: int
) -> None:
    config = searched(search="random", samples=samples, **LISTS).model_copy(update={"seed": seed})
    tried, grid = points(config, TARGETS), points(searched(**LISTS), TARGETS)
    assert all(point in grid for point in tried)
    assert len(tried) == len({json.dumps(point) for point in tried})
    for name in NAMES:
        assert sum(point["target"] == name for point in tried) == min(samples, 12)
    assert trials_of(config, TARGETS) == len(tried)
    assert tried == points(config, TARGETS)


def drawn(search: TargetSearch, trials: range) -> list[dict[str, object]]:
    return [search.suggest(f"trial {number}")["point"] for number in trials]


def test_studies_draw_in_turn_from_the_seed_and_within_the_range_of_the_learning_rates() -> None:
    config = searched(search="optuna", samples=8, **LISTS)
    first = drawn(optuna_search(config, list(NAMES)), range(12))
    assert [point["target"] for point in first] == [*NAMES] * 4
    assert first == drawn(optuna_search(config, list(NAMES)), range(12))
    other = config.model_copy(update={"seed": 1})
    assert first != drawn(optuna_search(other, list(NAMES)), range(12))
    assert all(0.001 <= point["lr"] <= 0.1 for point in first)  # type: ignore[operator]
    assert len({point["lr"] for point in first}) > 3
    assert {point["hidden"] for point in first} == {0, 8}


def test_a_study_learns_from_its_own_target_alone() -> None:
    """High learning rates are best for one target, low ones for the other."""
    search = optuna_search(searched(search="optuna", lr=[1e-5, 0.1]), ["high", "low"])
    tried: dict[str, list[float]] = {"high": [], "low": []}
    for number in range(60):
        point = search.suggest(f"{number}")["point"]
        exponent = math.log10(point["lr"])
        gap = -exponent if point["target"] == "high" else exponent
        search.on_trial_complete(f"{number}", {"gap": gap, "training_iteration": 1})
        tried[point["target"]].append(exponent)
    # Drawn at random, the middle of a range of four orders of magnitude would be -3.
    assert statistics.median(tried["high"][10:]) > -2
    assert statistics.median(tried["low"][10:]) < -4


def test_a_search_comes_back_from_its_file_and_goes_on_as_it_would_have(tmp_path: Path) -> None:
    config = searched(search="optuna", **LISTS)
    search = optuna_search(config, list(NAMES))
    drawn(search, range(4))
    search.on_trial_complete("trial 0", {"gap": -0.5, "training_iteration": 1})
    search.on_trial_complete("trial 1", error=True)
    search.save(str(tmp_path / "state"))
    back = optuna_search(config, list(NAMES))
    back.restore(str(tmp_path / "state"))
    assert back.drawn == search.drawn
    assert drawn(back, range(4, 10)) == drawn(search, range(4, 10))
    # A trial that was running when the driver was killed reports to the restored search.
    back.on_trial_result("trial 2", {"gap": 0.0, "training_iteration": 1})


def test_one_learning_rate_is_no_range() -> None:
    space = optuna_space(searched(lr=[0.05]))
    assert space["lr"] == optuna.distributions.FloatDistribution(0.05, 0.05, log=True)
    assert space["lr"].single()


@pytest.mark.parametrize("hidden", [(0, 0), (3, 0), (5, 5)])
def test_a_gate_comes_back_from_its_folder(hidden: tuple[int, int], tmp_path: Path) -> None:
    heads = tuple(make_head(6, routes, units) for routes, units in zip((2, 3), hidden, strict=True))
    for head in heads:
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
    outcomes = (
        Outcome(50.0, 0.25, {"top1": 0.9, "top5": 1.0}, (0.5, 0.5)),
        Outcome(70.0, 0.2, {"top1": 0.95, "top5": 1.0}, (0.1, 0.9)),
    )
    gate = TrainedGate(heads, (50.0, 70.0), (0.5, -1.25), outcomes, 0.225, 40, 140, 1.5)
    write_gate(tmp_path, gate)
    back = read_gate(tmp_path)
    features = torch.rand(10, 6)
    for ours, theirs in zip(back.heads, heads, strict=True):
        assert torch.equal(ours(features), theirs(features))
        assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert {**vars(back), "heads": ()} == {**vars(gate), "heads": ()}


def test_a_trials_place_is_its_point_in_whatever_order(tmp_path: Path) -> None:
    point = {"target": "0.5", "lr": 0.1, "hidden": 0}
    assert place_of(tmp_path, point) == place_of(tmp_path, dict(reversed(point.items())))
    assert place_of(tmp_path, point) != place_of(tmp_path, point | {"hidden": 8})


def test_a_sweep_without_a_whole_state_begins_anew(tmp_path: Path) -> None:
    assert not can_go_on(tmp_path / "nothing")
    (tmp_path / "tuner.pkl").write_bytes(b"")
    assert not can_go_on(tmp_path)
    (tmp_path / "experiment_state-2026-01-01.json").write_text('{"trial_data": []}')
    assert can_go_on(tmp_path)
    search = tmp_path / "searcher-state-2026-01-01.pkl"
    TargetSearch({}).save(str(search))
    assert can_go_on(tmp_path)
    for cut in (b"", search.read_bytes()[:-3]):
        search.write_bytes(cut)
        assert not can_go_on(tmp_path)
    search.unlink()
    (tmp_path / "experiment_state-2026-01-02.json").write_text('{"trial_da')
    assert not can_go_on(tmp_path)
