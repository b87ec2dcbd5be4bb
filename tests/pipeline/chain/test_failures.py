"""Two at once, and one that comes to nothing."""

import threading
from pathlib import Path

import pytest

from dsnet.errors import DivergenceError
from pipeline.chain import ChainResult
from pipeline.store import registry
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured
from tests.pipeline.chain.faults import supernet_of


def test_two_runs_of_one_configuration_at_once_train_once(home: Path, result: ChainResult) -> None:
    config = configured(
        name="twice", cluster={"workers": 1}, supernet={"epochs": 1, "warmup_epochs": 0}
    )
    made: list[Version] = []

    def run() -> None:
        with WorkerGroup() as workers:
            made.append(supernet_of(config, workers))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert registry.versions("twice-supernet") == made[:1]


def test_a_training_that_diverges_says_which_loss_when_and_registers_nothing(
    home: Path, result: ChainResult, workers: WorkerGroup
) -> None:
    config = configured(name="diverging", supernet={"epochs": 2, "lr": 1e6, "warmup_epochs": 0})
    with pytest.raises(DivergenceError) as caught:
        supernet_of(config, workers)
    assert "at step " in str(caught.value) or "after step " in str(caught.value)
    assert "width" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [v for v in registry.versions() if v.name.startswith("diverging")]
