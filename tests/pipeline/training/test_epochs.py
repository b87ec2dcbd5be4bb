"""The loop over epochs: a training that was stopped, and one that comes to nothing."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import dsnet
from dsnet.errors import DivergenceError
from pipeline.config import Config, config_from_dict
from pipeline.stages import gate, supernet
from pipeline.stages.stage import Stage, Upstream
from pipeline.training.epochs import Schedule
from pipeline.training.local_worker import LocalWorker
from tests.pipeline.stages.tiny import Tiny
from tests.pipeline.training.made import made, small_config


class Stopped(Exception):
    """As a machine that is taken away."""


class StopsAfterOne(LocalWorker):
    def report(self, *arguments: Any, **how: Any) -> None:
        super().report(*arguments, **how)
        raise Stopped


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("tiny"))


def two_epochs(config: Config) -> Config:
    values = config.as_dict()
    for section in ("supernet", "gate"):
        values[section] |= {"epochs": 2, "batch_size": 120, "optimizer": "adamw", "lr": 0.01}
    values["supernet"] |= {"warmup_epochs": 1, "clip_grad": 1.0}
    return config_from_dict(values)


def untimed(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports without what a clock says."""
    return [{key: report[key] for key in report if key != "throughput"} for report in reports]


@pytest.mark.parametrize("stage", [supernet.STAGE, gate.STAGE], ids=lambda stage: stage.spec.name)
def test_it_goes_on_from_its_checkpoint(stage: Stage[Any], tiny: Tiny, tmp_path: Path) -> None:
    config = two_epochs(tiny.config)
    model = dsnet.save(tiny.model, tmp_path / "model")
    inputs = stage.inputs.of(Upstream(config, tiny.dataset, model))
    with closing(LocalWorker(config, tmp_path / "whole")) as undisturbed:
        stage.loop(undisturbed, inputs)
    with closing(StopsAfterOne(config, tmp_path / "parts")) as first, pytest.raises(Stopped):
        stage.loop(first, inputs)
    with closing(LocalWorker(config, tmp_path / "parts")) as second:
        stage.loop(second, inputs)
    assert [metrics["epoch"] for metrics in second.metrics] == [2]
    assert untimed(second.metrics) == untimed(undisturbed.metrics[1:])
    for file in (tmp_path / "whole").rglob("*.safetensors"):
        expected = load_file(file)
        found = load_file(tmp_path / "parts" / file.relative_to(tmp_path / "whole"))
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize(("stage", "said"), [(supernet.STAGE, "width"), (gate.STAGE, "slimming")])
def test_a_training_that_diverges_says_which_loss_and_when(
    stage: Stage[Any], said: str, tiny: Tiny, tmp_path: Path
) -> None:
    values = two_epochs(tiny.config).as_dict()
    for section in ("supernet", "gate"):
        values[section] |= {"lr": 1e30, "optimizer": "sgd", "momentum": 0.99}
    values["supernet"] |= {"clip_grad": None, "warmup_epochs": 0}
    config = config_from_dict(values)
    model = dsnet.save(tiny.model, tmp_path / "model")
    with closing(LocalWorker(config, tmp_path / "diverged")) as worker:
        with pytest.raises(DivergenceError, match=rf"{said}.* (at|after) step \d") as caught:
            stage.loop(worker, stage.inputs.of(Upstream(config, tiny.dataset, model)))
        assert "\n" not in str(caught.value)
        assert worker.metrics == []


def test_patience_ends_a_training_and_hands_on_the_best(tiny: Tiny, tmp_path: Path) -> None:
    values = two_epochs(tiny.config).as_dict()
    # The first epoch's rate is nothing: from the second evaluation on, nothing is new.
    values["supernet"] |= {"epochs": 9, "lr": 1e-30, "warmup_lr": 0.0, "patience": 2}
    values["supernet"] |= {"evaluate_every": 1, "checkpoint_every": 3, "ema": 0.0}
    config = config_from_dict(values)
    inputs = supernet.STAGE.inputs.of(Upstream(config, tiny.dataset, tmp_path))
    with closing(LocalWorker(config, tmp_path / "run")) as worker:
        supernet.STAGE.loop(worker, inputs)
        best = worker.best()
    last = worker.metrics[-1]
    assert len(worker.metrics) < 9
    (first,) = [report for report in worker.metrics if report["epoch"] == last["best_epoch"]]
    assert last["epoch"] == last["best_epoch"] + 2
    assert (last["holdout"], last["evaluation"]) == (first["holdout"], first["evaluation"])
    assert best is not None
    expected = dsnet.load(best / "model").state_dict()
    found = dsnet.load(tmp_path / "run" / "model").state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_an_epoch_without_an_evaluation_reports_its_losses_alone(
    tiny: Tiny, tmp_path: Path
) -> None:
    values = two_epochs(tiny.config).as_dict()
    values["supernet"] |= {"evaluate_every": 2}
    config = config_from_dict(values)
    inputs = supernet.STAGE.inputs.of(Upstream(config, tiny.dataset, tmp_path))
    with closing(LocalWorker(config, tmp_path / "run")) as worker:
        supernet.STAGE.loop(worker, inputs)
    assert ["holdout" in report for report in worker.metrics] == [False, True]
    throughput = worker.metrics[0]["throughput"]
    assert throughput["images_per_second"] > 0
    assert 0 <= throughput["share_waiting_for_data"] < 1


@pytest.mark.parametrize(
    ("epochs", "every", "early"),
    [(150, 1, 50), (24, 6, 6), (26, 6, 6), (20, 10, 6), (3, 1, 1), (4, 4, 1), (2, 1, 0), (1, 1, 0)],
)
def test_an_evaluation_comes_before_a_third_of_the_epochs(
    epochs: int, every: int, early: int
) -> None:
    assert Schedule(epochs, 0.1, checkpoint_every=every).early == early
    assert Schedule(epochs, 0.1, evaluate_every=every).early == early


@pytest.mark.parametrize(("epochs", "looks"), [(2, [(2, 8)]), (3, [])])
def test_few_epochs_are_looked_at_when_a_third_of_their_steps_is_done(
    epochs: int, looks: list[tuple[int, int]], tmp_path: Path
) -> None:
    training = made(tmp_path / "checkpoint", small_config(epochs=epochs))
    found: list[tuple[int, int]] = []
    training.algorithm.look = lambda done, total: found.append((done, total))  # type: ignore[method-assign]
    training.run()
    assert found == looks
