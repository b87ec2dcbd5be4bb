"""A training that was saved and restored takes the same next step as the one that went on."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dsnet import DSNet
from dsnet.training import bootstrap_step, make_teacher, update_teacher
from pipeline.training.state import Training
from tests.dsnet.conftest import ARCHITECTURES

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], bool], torch.optim.Optimizer]] = {
    "sgd": lambda p, fused: torch.optim.SGD(p, 0.05, 0.9, nesterov=True, fused=fused),
    "adamw": lambda p, fused: torch.optim.AdamW(p, 1e-3, weight_decay=1e-2, fused=fused),
}


def training(arch: str, optimizer: str, fused: bool, layout: torch.memory_format) -> Training:
    """A fresh training, the same for the same arguments."""
    torch.manual_seed(0)
    student = DSNet(replace(ARCHITECTURES[arch], num_classes=5, resolution=16))
    student = student.train().to(memory_format=layout)
    learning = list(student.parameters())
    return Training(make_teacher(student), OPTIMIZERS[optimizer](learning, fused), student)


def step(state: Training, number: int) -> None:
    """One step of stage I on images that `number` decides."""
    assert state.student is not None
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    labels = torch.randint(0, 5, (4,), generator=generator)
    state.optimizer.zero_grad()
    bootstrap_step(state.student, state.model, images, labels, [1])
    state.optimizer.step()
    update_teacher(state.model, state.student, 0.9)


def everything(state: Training) -> dict[str, torch.Tensor]:
    """All tensors of a training, by name."""
    assert state.student is not None
    networks: dict[str, DSNet] = {"student": state.student, "teacher": state.model}
    named = {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        named |= {f"optimizer.{index}.{key}": v for key, v in values.items() if v is not None}
    return copy.deepcopy(named)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_restored_training_takes_the_same_next_step(
    arch: str, optimizer: str, fused: bool, layout: torch.memory_format, tmp_path: Path
) -> None:
    going_on = training(arch, optimizer, fused, layout)
    for number in range(2):
        step(going_on, number)
    going_on.snapshot()(tmp_path)
    restored = training(arch, optimizer, fused, layout)
    restored.restore(tmp_path)
    for state in (going_on, restored):
        step(state, 2)
    expected, found = everything(going_on), everything(restored)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
