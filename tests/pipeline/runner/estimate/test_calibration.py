"""What a calibration times is the step that the configuration's workers take."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsnet import DSNet, create_model
from pipeline.config import Config, config_from_dict
from pipeline.runner.estimate.calibration import stage_one

CPU = torch.device("cpu")


@pytest.fixture
def network() -> DSNet:
    """Of a family with dense convolutions, which bfloat16 makes faster."""
    torch.manual_seed(0)
    return create_model("ds_resnet12_mnist", 10)


def configured(**supernet: Any) -> Config:
    section = {"batch_size": 4, "random_widths": 1, **supernet}
    return config_from_dict({"name": "calibrated", "supernet": section, "gate": {"target": 0.5}})


@pytest.mark.parametrize(
    ("multiplies", "expected"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_it_is_taken_in_the_precision_that_the_workers_choose(
    network: DSNet, monkeypatch: pytest.MonkeyPatch, multiplies: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": multiplies})
    found = set()

    def look(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        found.add(output.dtype)

    network.stem.get_submodule("conv").register_forward_hook(look)
    stage_one(configured(amp="auto"), network, CPU)()
    assert found == {expected}


def test_what_is_frozen_has_no_gradient(network: DSNet) -> None:
    stage_one(configured(**{"from": "models:/other/1", "freeze": ["stem"]}), network, CPU)()
    learned = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learned and not {name for name in learned if name.startswith("stem")}
