"""Stage II: who learns, what the three terms are, and that training runs what inference runs."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet import DSNet, InputError
from dsnet.training import GateLoss, freeze_trunk, gate_step
from dsnet.training.gate import gumbel_one_hot

Build = Callable[..., DSNet]


def certain(model: DSNet) -> DSNet:
    """The same choices with logits so far apart that no Gumbel noise changes them."""
    with torch.no_grad():
        for parameter in model.slimming_parameters():
            parameter.mul_(1e6)
    freeze_trunk(model)
    return model


def gate_logits(model: DSNet, images: Tensor) -> list[Tensor]:
    """Each gate's logits (N, routes) on each image's own way, one image at a time."""
    rows: list[list[Tensor]] = [[] for _ in model.gates]
    for image, route in zip(images, model.route(images, price=0.0).tolist(), strict=True):
        x = image[None]
        for gate, row in enumerate(rows):
            x, reduced = model.segment(gate, x, model.space[route])
            assert reduced is not None
            row.append(model.gates[gate].logits(reduced)[0])
    return [torch.stack(row) for row in rows]


def test_the_slimming_heads_alone_learn(gated: DSNet, images: Tensor, labels: Tensor) -> None:
    freeze_trunk(gated)
    before = {name: value.clone() for name, value in gated.state_dict().items()}
    gate_step(gated, images, labels)
    slimming = {id(parameter) for parameter in gated.slimming_parameters()}
    for name, parameter in gated.named_parameters():
        if id(parameter) in slimming:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    for name, value in gated.state_dict().items():
        assert torch.equal(value, before[name]), name  # running statistics included


def test_the_training_path_with_hard_gates_is_the_inference_path(
    gated: DSNet, images: Tensor, labels: Tensor
) -> None:
    certain(gated)
    routes = gated.route(images)
    assert len(routes.unique()) > 1
    terms = gate_step(gated, images, labels)
    logits = gated(images)
    torch.testing.assert_close(terms["classification"], F.cross_entropy(logits, labels))
    assert terms["top1"] == (logits.argmax(1) == labels).float().mean()
    madds = [gated.madds(route) for route in routes.tolist()]
    torch.testing.assert_close(terms["madds"].item(), sum(madds) / len(madds))


def test_the_loss_is_the_weighted_sum_of_its_terms(
    gated: DSNet, images: Tensor, labels: Tensor
) -> None:
    freeze_trunk(gated)
    loss = GateLoss(classification=2.0, complexity=3.0, sgs_weight=5.0)
    terms = gate_step(gated, images, labels, loss)
    expected = 2 * terms["classification"] + 3 * terms["complexity"] + 5 * terms["sgs"]
    torch.testing.assert_close(terms["loss"], expected)


def test_the_official_complexity_is_the_square_of_the_mean_giga_madds(
    gated: DSNet, images: Tensor, labels: Tensor
) -> None:
    certain(gated)
    madds = [gated.madds(route) for route in gated.route(images).tolist()]
    terms = gate_step(gated, images, labels)
    expected = (sum(madds) / len(madds) / 1e9) ** 2
    assert terms["complexity"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("share", "excess"), [(0.5, 1.0), (0.8, 0.25), (1.0, 0.0), (2.0, 0.0)])
def test_a_target_costs_its_relative_excess_and_nothing_once_it_is_met(
    gated: DSNet, images: Tensor, labels: Tensor, share: float, excess: float
) -> None:
    certain(gated)
    madds = gate_step(gated, images, labels)["madds"].item()
    terms = gate_step(gated, images, labels, GateLoss(target=share * madds))
    torch.testing.assert_close(terms["complexity"].item(), excess)


@pytest.mark.parametrize("strategy", ["try_best", "give_up", "off"])
@pytest.mark.parametrize(
    ("name", "routes"),
    [
        ("mbnet with one gate", None),
        ("mbnet with one gate", ((1, 2),)),
        ("mbnet with two gates", None),
        ("resnet with two gates", ((0, 2), (0, 1))),
    ],
)
def test_sandwich_sparsification_sends_easy_images_to_the_smallest_and_others_to_the_widest(
    build: Build, images: Tensor, name: str, routes: tuple[tuple[int, ...], ...], strategy: str
) -> None:
    model = certain(build(name, routes=routes))
    smallest, widest = (
        model(images, width=model.space.routes[end]).argmax(1).tolist() for end in (0, -1)
    )
    # Right at the widest alone where the two differ; else right everywhere, wrong everywhere.
    labels = [
        wide if small != wide else (small if i % 2 else (small + 1) % 5)
        for i, (small, wide) in enumerate(zip(smallest, widest, strict=True))
    ]
    easy = [small == label for small, label in zip(smallest, labels, strict=True)]
    right_widest = [wide == label for wide, label in zip(widest, labels, strict=True)]
    goes_wide = {
        "try_best": [not e for e in easy],
        "give_up": [not e and right for e, right in zip(easy, right_widest, strict=True)],
        "off": [],
    }[strategy]
    terms = gate_step(model, images, torch.tensor(labels), GateLoss(sgs=strategy))
    assert terms["easy"].item() == pytest.approx(sum(easy) / len(easy))
    if strategy == "off":
        assert terms["sgs"] == 0
        return
    assert {strategy, *goes_wide} == {strategy, True, False}
    expected = [
        -logits.log_softmax(1)[i, -1 if wide else 0]
        for logits in gate_logits(model, images)
        for i, wide in enumerate(goes_wide)
    ]
    torch.testing.assert_close(terms["sgs"], torch.stack(expected).mean().detach())


def test_the_straight_through_choice_is_torchs_hard_gumbel_softmax() -> None:
    """The same draw, and the same gradient."""
    weights = torch.randn(50, 4)
    found, expected = [], []
    for sample, results in ((gumbel_one_hot, found), (F.gumbel_softmax, expected)):
        logits = torch.linspace(-1, 1, 200).view(50, 4).requires_grad_()
        torch.manual_seed(3)
        hard = {"hard": True} if sample is F.gumbel_softmax else {}
        choice = sample(logits, 0.7, **hard)  # type: ignore[operator]
        (choice * weights).sum().backward()
        results += [choice.detach(), logits.grad]
    assert set(found[0].flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found, expected)


def test_a_choice_is_drawn_as_often_as_its_softmax_says() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(20000, 3)
    drawn = gumbel_one_hot(logits, 1.0, torch.Generator().manual_seed(0)).mean(0)
    torch.testing.assert_close(drawn, logits[0].softmax(0), rtol=0, atol=0.015)


def test_the_generator_decides_the_draw(gated: DSNet, images: Tensor, labels: Tensor) -> None:
    freeze_trunk(gated)
    with torch.no_grad():
        for parameter in gated.slimming_parameters():
            parameter.zero_()
    draws = [
        gate_step(gated, images, labels, generator=torch.Generator().manual_seed(seed))["loss"]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_network_in_training_mode_is_refused(
    gated: DSNet, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises(InputError, match=r"call freeze_trunk\(model\) first"):
        gate_step(gated.train(), images, labels)


def test_a_network_without_gates_has_nothing_to_train(build: Build) -> None:
    with pytest.raises(InputError, match="resnet_0 has no gate to train"):
        freeze_trunk(build("resnet without gates"))
