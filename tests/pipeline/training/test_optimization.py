"""What learns how fast, and what decays."""

import pytest
import torch

from dsnet import DSNet, create_model
from pipeline.config import Supernet, config_from_dict
from pipeline.training.optimization import make_optimizer, one_cycle, set_learning_rate


def section(trunk_lr: float) -> Supernet:
    return config_from_dict({"supernet": {"trunk_lr": trunk_lr}}).supernet


def groups(model: DSNet, trunk_lr: float) -> torch.optim.Optimizer:
    return make_optimizer(list(model.parameters()), section(trunk_lr), model.head)


def rates(model: DSNet, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of each parameter."""
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: of[id(parameter)] for name, parameter in model.named_parameters()}


def test_a_slower_trunk_has_its_share_of_every_rate_of_the_schedule() -> None:
    model = create_model("ds_mbnet_digits")
    optimizer = groups(model, 0.1)
    for lr in (0.08, 0.02):
        set_learning_rate(optimizer, lr)
        for name, (rate, decay) in rates(model, optimizer).items():
            head = name.startswith("classifier.")
            assert rate == pytest.approx(lr if head else lr / 10), name
            assert decay == (1e-4 if model.get_parameter(name).ndim > 1 else 0.0), name


def test_at_one_rate_there_are_the_two_groups_that_there_were() -> None:
    model = create_model("ds_mbnet_digits")
    one, other = groups(model, 1.0), make_optimizer(list(model.parameters()), section(1.0))
    set_learning_rate(one, 0.3)
    assert [[id(p) for p in g["params"]] for g in one.param_groups] == [
        [id(p) for p in g["params"]] for g in other.param_groups
    ]
    assert [g["lr"] for g in one.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_one_cycle_is_torchs(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, steps, cycle_momentum=False)
    for step in range(steps):
        assert one_cycle(step, steps, 0.4) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        if step + 1 < steps:
            reference.step()
