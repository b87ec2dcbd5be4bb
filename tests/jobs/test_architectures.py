"""Whatever `dsnet madds` lists is trained from a configuration: planned, stage I, stage II."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dsnet import InputError, Metadata
from dsnet.models.create import task_of
from dsnet.models.registry import ARCHITECTURES
from dsnet.training import freeze_trunk, gate_step, make_teacher, update_teacher
from jobs import cli
from pipeline.config import Config, config_from_dict
from pipeline.data.threads import torch_threads
from pipeline.runner.checks import check_model
from pipeline.stages import gate, supernet
from pipeline.training.optimization import make_optimizer

SIDE, CLASSES, BATCH = 32, 3, 4


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))


def configured(arch: str, **model: Any) -> Config:
    labelled = task_of(arch).labelled
    return config_from_dict(
        {
            "data": {
                "source": "/nowhere",
                "recipe": "cifar" if labelled else "patches",
                "resolution": SIDE,
            },
            "task": {} if labelled else {"noise": 25},
            "model": {"arch": arch, **model},
            "supernet": {"batch_size": BATCH, "epochs": 1, "warmup_epochs": 0, "lr": 0.01},
            "gate": {"target": 0.6},
        }
    )


def stepped(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Take the step; whether what it trains has changed."""
    before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
    optimizer.step()
    optimizer.zero_grad()
    after = optimizer.param_groups[0]["params"]
    return any(not torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_planned_and_trained_from_a_configuration(
    arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(arch)
    (file := tmp_path / "config.yaml").write_text(config.yaml())
    sizes = ("--images", "64", "--test-images", "16", "--classes", str(CLASSES))
    assert cli.run(["plan", "--config", str(file), *sizes, "--json"]) == 0
    stages = [stage["stage"] for stage in json.loads(capsys.readouterr().out)["stages"]]
    assert stages == ["supernet", "calibrate", "table", "gate", "evaluate"]

    check_model(config)
    with torch_threads(1):
        classes = tuple("abc") if task_of(arch).labelled else ()
        model = supernet.new_model(config, Metadata(resolution=SIDE, classes=classes)).train()
        images, labels = torch.rand(BATCH, 3, SIDE, SIDE), torch.arange(BATCH) % CLASSES
        targets = labels if classes else torch.rand_like(images)
        learning = supernet.learners(config.supernet, model)
        teacher, optimizer = make_teacher(model), make_optimizer(learning, config.supernet)
        bootstrap = supernet.make_step(config.supernet, model, teacher, torch.device("cpu"))
        for _ in range(2):
            losses = bootstrap(images, targets, [1])
            assert losses.keys() == {"largest", "random_0", "smallest"}
            assert stepped(model, optimizer)
            update_teacher(teacher, model, 0.5)

        worker: Any = SimpleNamespace(config=config)
        freeze_trunk(model)
        heads = make_optimizer(model.slimming_parameters(), config.gate)
        gate_step(model, images, targets, gate.make_loss(worker, model), torch.Generator())
        assert stepped(model, heads)


def test_the_gates_are_the_configurations_or_the_architectures_or_in_the_middle() -> None:
    def gates(arch: str, **model: Any) -> tuple[int, ...]:
        found = supernet.new_model(configured(arch, **model), Metadata(resolution=SIDE))
        return found.architecture.gates

    assert gates("ds_resnet_cifar", num_classes=3) == (1, 2)
    assert gates("ds_resnet_cifar", num_classes=3, gates=[2]) == (2,)
    assert gates("ds_resnet50", num_classes=3) == (2,)


@pytest.mark.parametrize(
    ("arch", "gates", "found"),
    [
        ("ds_resnet50", [7], r"0 to 3, found \[7\]"),
        ("ds_mbnet", [2], r"channel lists of one length"),  # two entries, then fourteen
    ],
)
def test_gates_that_cannot_be_are_refused_by_the_fields_name(
    arch: str, gates: list[int], found: str
) -> None:
    with pytest.raises(InputError, match=rf"model\.gates, for {arch}: .*{found}"):
        check_model(configured(arch, gates=gates))
