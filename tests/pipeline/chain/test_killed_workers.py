"""A worker that is killed at any step costs nothing: the result is the undisturbed one's.

Three seeds; more of them by `--kills 20`.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.faults import (
    EPOCHS,
    INTERVAL,
    OPTIMIZERS,
    STEPS,
    epochs_logged,
    in_background,
    kill,
    same,
    short,
    steps_saved,
    supernet_of,
)
from tests.pipeline.chain.pauses import Pause

pytestmark = pytest.mark.slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("kills")))


def test_a_worker_killed_at_a_random_step(
    seed: int, undisturbed: Callable[[str], Version], workers: WorkerGroup, tmp_path: Path
) -> None:
    draw, optimizer = random.Random(seed), OPTIMIZERS[seed % 2]
    pause = Pause(tmp_path, step=draw.randint(1, STEPS), rank=draw.randrange(2))
    config = short(f"killed-{seed}", optimizer)
    training = in_background(config, workers, pause)
    kill(pause.reached(training.done).pid)
    # One interval, and one more where the newest checkpoint was still being written.
    assert pause.step - steps_saved(config) <= 2 * INTERVAL
    pause.go_on()
    version = training.result()
    assert same(version, undisturbed(optimizer))
    assert epochs_logged(version) == list(range(1, EPOCHS + 1))


def test_two_that_nothing_happens_to_are_equal(
    undisturbed: Callable[[str], Version], workers: WorkerGroup
) -> None:
    again = supernet_of(short("again"), workers)
    assert same(again, undisturbed("adamw"))
    assert not same(again, undisturbed("sgd"))
