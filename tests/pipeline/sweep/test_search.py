"""Searches on a real Ray cluster: no target goes without, and what fails or lags is told apart."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pipeline.runner.tables import Tables
from pipeline.sweep.search import TargetSearch
from pipeline.sweep.tuner import Trial, run_trials
from tests.conftest import ONE_AT_A_TIME

from .conftest import NAMES, TARGETS, searched
from .made import make_tables

IMPOSSIBLE = 10**15  # units of a hidden layer: more than any memory holds


def of_target(trials: list[Trial]) -> dict[str, list[Trial]]:
    return {name: [trial for trial in trials if trial.target == name] for name in NAMES}


def test_every_target_has_its_trials_and_each_the_heads_that_it_drew(
    ray_cluster: str, tables: Tables, home: Path
) -> None:
    config = searched(
        "drawn", 60, search="optuna", samples=3, lr=[0.01, 0.1], hidden=[0, 8], **ONE_AT_A_TIME
    )
    trials = run_trials(config, TARGETS, tables, "key")
    assert {name: len(own) for name, own in of_target(trials).items()} == dict.fromkeys(NAMES, 3)
    for trial in trials:
        assert trial.gate is not None and trial.error is None
        assert trial.reached["loss"] == trial.gate.loss
        assert trial.reached["step"] == trial.gate.steps
        bias = trial.gate.heads[0].state_dict().get("0.bias", torch.empty(0))
        assert len(bias) == trial.point["hidden"]
        wanted = NAMES[:2] if trial.target == "every" else (trial.target,)
        assert trial.gate.targets == tuple(float(name) * 100 for name in wanted)


@pytest.mark.slow
def test_four_trials_at_once_take_the_table_and_less_than_200_mb_each(
    ray_cluster: str, home: Path, tmp_path: Path
) -> None:
    large = make_tables(tmp_path, rows=400_000, holdout=20_000, features=64)
    table = sum(
        values.nbytes
        for part in ("train", "holdout")
        for name, values in large.arrays(part).items()
        if name not in ("task", "paths")
    )
    assert table > 50e6
    config = searched("large", 40, lr=[0.05, 0.02], cpus_per_trial=1.0)
    trials = run_trials(config, TARGETS, large, "key")
    assert len(trials) == 2 * len(NAMES)
    for trial in trials:
        assert trial.error is None
        assert 0 < trial.reached["memory_mb"] < table / 1e6 + 200


def test_a_trial_that_fails_is_reported_and_the_others_go_on(
    ray_cluster: str, tables: Tables, home: Path
) -> None:
    config = searched(
        "failing", 60, search="random", samples=1, hidden=[0, IMPOSSIBLE], **ONE_AT_A_TIME
    )
    trials = run_trials(config, TARGETS, tables, "key")
    assert len(trials) == len(NAMES)
    assert {trial.point["hidden"] for trial in trials} == {0, IMPOSSIBLE}
    for trial in trials:
        if trial.point["hidden"] == IMPOSSIBLE:
            assert trial.gate is None and not trial.stopped
            assert trial.error is not None and "memory" in trial.error
        else:
            assert trial.gate is not None and trial.error is None


def test_a_hopeless_trial_is_stopped_early_and_no_target_is_left_without_a_gate(
    ray_cluster: str, tables: Tables, home: Path
) -> None:
    config = searched("halved", lr=[0.05, 1e-7, 1e-8, 1e-9], scheduler="asha", cpus_per_trial=2.0)
    trials = run_trials(config, TARGETS, tables, "key")
    assert not [trial.error for trial in trials if trial.error]
    stopped = [trial for trial in trials if trial.stopped]
    assert stopped
    for trial in stopped:
        assert trial.gate is None
        assert trial.point["lr"] < 0.05
        assert trial.reached["step"] < config.table.steps
    for own in of_target(trials).values():
        assert any(trial.gate is not None for trial in own)
        best = next(trial for trial in own if trial.point["lr"] == 0.05)
        assert best.gate is not None and not best.stopped
        for trial in own:
            # What a stopped trial had reached is comparable with what the others did.
            assert best.reached["gap"] <= trial.reached["gap"]


@pytest.mark.slow
def test_a_search_whose_driver_was_killed_knows_what_it_has_drawn(
    ray_cluster: str, tables: Tables, home: Path, tmp_path: Path
) -> None:
    config = searched("killed", 400, search="optuna", samples=3, lr=[1e-3, 0.1], **ONE_AT_A_TIME)
    file = tmp_path / "config.yaml"
    file.write_text(config.yaml())
    command = [sys.executable, "-m", "tests.pipeline.sweep.driver", str(tables.folder), str(file)]
    # Tune writes down every second, not every ten, what was drawn.
    environment = os.environ | {"RAY_ADDRESS": ray_cluster, "TUNE_GLOBAL_CHECKPOINT_S": "1"}
    folder = home / "train" / "sweeps" / "killed-key" / "trials"

    def drawn() -> dict[str, str]:
        search = TargetSearch({})
        for state in sorted(folder.glob("searcher-state-*.pkl")):
            # Tune copies it in place: read or killed in the middle of that, it is cut short.
            with suppress(EOFError, pickle.UnpicklingError):
                search.restore(str(state))
        return search.drawn

    def gates() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("gates/*/gate.json")}

    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(gates()) < 2 or len(drawn()) < 2:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before, known = gates(), drawn()
    assert len(known) < 9
    subprocess.run(command, env=environment, check=True, timeout=400)
    assert {path: gates()[path] for path in before} == before
    assert known.items() <= drawn().items()
    assert sorted(drawn().values()) == sorted([*NAMES] * 3)


def not_done(state: Path) -> None:
    """In what Tune wrote of its trials, one that ended has not told that it was its last report."""
    written = json.loads(state.read_text())
    rows = [tuple(map(json.loads, row)) for row in written["trial_data"]]
    (of_first,) = [part for part in rows[0] if "last_result" in part]
    assert of_first["last_result"]["done"]
    of_first["last_result"]["done"] = False
    written["trial_data"] = [tuple(map(json.dumps, row)) for row in rows]
    state.write_text(json.dumps(written))


def test_a_sweep_whose_state_was_torn_or_cut_short_finds_its_gates(
    ray_cluster: str, tables: Tables, home: Path
) -> None:
    config = searched("cut", 60, **ONE_AT_A_TIME)
    first = run_trials(config, TARGETS, tables, "key")
    folder = home / "train" / "sweeps" / "cut-key" / "trials"
    # Killed between a trial's end and its last report; and while the state was being written.
    for harm in (not_done, lambda state: state.write_bytes(state.read_bytes()[:-100])):
        harm(max(folder.glob("experiment_state-*.json")))
        again = run_trials(config, TARGETS, tables, "key")
        # A gate that is trained anew takes another time.
        assert sorted(trial.gate.seconds for trial in again if trial.gate) == sorted(
            trial.gate.seconds for trial in first if trial.gate
        )
        assert len(again) == len(NAMES)
