"""A network is a pure function of its arguments and weights, and routing really slices."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, InputError
from dsnet.nn.layers import SlimBatchNorm2d
from dsnet.routing.budget import price_for

Build = Callable[..., DSNet]


# Widths are arguments -----------------------------------------------------------------------------


def test_no_call_leaves_anything_behind(network: DSNet, images: Tensor) -> None:
    """Whatever ran before, in whatever order, a width gives the same logits, bit for bit."""
    widths = [*range(len(network.space)), network.space.largest]
    forward = [network(images, width=width) for width in widths]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    backward = [network(images, width=width) for width in reversed(widths)][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert torch.equal(first, second)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_index_and_its_width_are_the_same(network: DSNet, images: Tensor) -> None:
    for index, width in enumerate(network.space):
        assert torch.equal(network(images, width=index), network(images, width=width))


def test_the_widths_differ(network: DSNet, images: Tensor) -> None:
    logits = [network(images, width=width) for width in {*network.space, network.space.largest}]
    for i, one in enumerate(logits):
        assert not any(torch.allclose(one, other) for other in logits[:i])


def test_a_width_works_on_a_slice_of_the_one_set_of_weights(build: Build) -> None:
    """Of the weights behind the gate, the slimmest route reads the first channels and no others."""
    model = build("mbnet with one gate")
    block = model.stages[1].get_submodule("0")
    weight = block.get_submodule("pointwise").get_parameter("weight")
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    slim, wide = model(images, width=0), model(images, width=2)
    with torch.no_grad():
        weight[8:].normal_()
        weight[:, 12:].normal_()
    assert torch.equal(model(images, width=0), slim)
    assert not torch.allclose(model(images, width=2), wide)


def test_training_mode_moves_the_statistics_of_the_width_that_ran_and_no_others(
    build: Build, images: Tensor
) -> None:
    model = build("mbnet with one gate").train()
    norm = model.stages[2].get_submodule("0.bn2")
    assert isinstance(norm, SlimBatchNorm2d)
    before = {width: norm.statistics(width)[0].clone() for width in norm.widths}
    model(images, width=1)
    moved = [not torch.equal(norm.statistics(width)[0], before[width]) for width in norm.widths]
    assert moved == [False, True, False]


# Routing ------------------------------------------------------------------------------------------


def test_every_image_runs_at_the_width_its_gates_pick(gated: DSNet, images: Tensor) -> None:
    routes = gated.route(images)
    assert len(routes.unique()) > 1
    logits, widths = gated.dynamic(images)
    assert torch.equal(widths, routes)
    torch.testing.assert_close(gated(images), logits, rtol=0, atol=0)
    for image, route, row in zip(images, routes.tolist(), logits, strict=True):
        torch.testing.assert_close(gated(image[None], width=route)[0], row)


def test_a_gate_picks_the_highest_logit_of_its_own_routes(build: Build, images: Tensor) -> None:
    model = build("mbnet with one gate", routes=((0, 2),))
    _, reduced = model.segment(0, images, model.space[0])
    assert reduced is not None
    wide = (reduced @ model.gates[0].slimming.weight.T).diff(dim=1)[:, 0] > 0
    assert 0 < wide.sum() < len(images)
    assert torch.equal(model.route(images), wide * 2)


def test_gate_logits_are_as_exact_as_their_sum_can_be(build: Build, images: Tensor) -> None:
    """Heads may have weights so large that their products cancel (an official one sums 2,453 to
    about 1), so what rounding does is measured against |W| |r| and not against the logits."""
    model = build("mbnet with one gate")
    with torch.no_grad():
        model.slimming_parameters()[0].mul_(1e4)
    _, reduced = model.segment(0, images, model.space[0])
    assert reduced is not None
    weight = model.slimming_parameters()[0]
    exact = torch.einsum("nr,kr->nk", reduced, weight)
    scale = torch.einsum("nr,kr->nk", reduced.abs(), weight.abs())
    _, rounded = model.float().segment(0, images.float(), model.space[0])
    assert rounded is not None
    assert ((model.gates[0].logits(rounded) - exact).abs() < 2e-6 * scale).all()


def test_routing_slices_instead_of_masking(build: Build, images: Tensor) -> None:
    """The layers behind the gate see only their own images, at their own width."""
    model = build("mbnet with one gate")
    shapes: list[tuple[int, int]] = []
    last = model.stages[2].get_submodule("0.depthwise")
    last.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[:2])))
    counts = model.route(images).bincount().tolist()
    model(images)
    assert shapes == list(zip(counts, (8, 12, 16), strict=True))


def test_route_alone_does_not_run_what_lies_behind_the_last_gate(
    build: Build, images: Tensor
) -> None:
    model = build("resnet with two gates")
    ran: list[nn.Module] = []
    for block in (model.block(1, 0), model.block(2, 0)):
        block.get_submodule("conv1").register_forward_hook(lambda module, *_: ran.append(module))
    model.route(images)
    assert set(ran) == {model.block(1, 0).get_submodule("conv1")}


def test_the_order_of_images_does_not_matter(gated: DSNet, images: Tensor) -> None:
    order = torch.randperm(len(images))
    torch.testing.assert_close(gated(images[order]), gated(images)[order])
    assert torch.equal(gated.route(images[order]), gated.route(images)[order])


def test_a_price_is_weighed_against_the_logits(build: Build, images: Tensor) -> None:
    model = build("mbnet with one gate")
    _, reduced = model.segment(0, images, model.space[0])
    assert reduced is not None
    madds = torch.tensor([model.madds(i) for i in range(3)], dtype=torch.float64)
    for price in (-2.0, 0.0, 0.7, 5.0):
        scores = model.gates[0].logits(reduced) - price * madds / madds[-1]
        assert torch.equal(model.route(images, price=price), scores.argmax(1))


def test_a_high_price_buys_the_slimmest_route_and_a_low_one_the_widest(
    gated: DSNet, images: Tensor
) -> None:
    routes = gated.space.routes
    assert set(gated.route(images, price=1e6).tolist()) == {routes[0]}
    assert set(gated.route(images, price=-1e6).tolist()) == {routes[-1]}


def test_the_models_own_price_holds_unless_another_is_asked_for(
    gated: DSNet, images: Tensor
) -> None:
    free = gated.route(images)
    gated.metadata = dataclasses.replace(gated.metadata, price=1e6)
    assert set(gated.route(images).tolist()) == {0}
    assert torch.equal(gated.route(images, price=0.0), free)


@pytest.mark.parametrize("routes", [None, (0, 2)])
def test_untrained_gates_take_the_widest_route(routes: tuple[int, ...] | None) -> None:
    model = dsnet.create_model("ds_mbnet_digits", routes=routes).eval()
    widest = model.space.routes[-1]
    images = torch.randn(5, 3, 8, 8)
    assert not model.gates_trained
    assert model.route(images).tolist() == [widest] * 5
    with torch.no_grad():
        assert torch.equal(model(images), model(images, width=widest))
    with torch.no_grad():
        model.slimming_parameters()[0][0, 0] = 1e-3
    assert model.gates_trained


def test_untrained_gates_of_several_stages_take_the_widest_of_each() -> None:
    model = dsnet.create_model("ds_resnet_cifar", gates=[1, 2]).eval()
    images = torch.randn(2, 3, 32, 32)
    assert model.route(images).tolist() == [len(model.space) - 1] * 2
    restricted = dsnet.restricted(model, [0, 1])
    assert restricted.route(images).tolist() == [restricted.space.routes[-1]] * 2


def test_a_budget_of_an_untrained_gate_is_refused_with_the_reason() -> None:
    model = dsnet.create_model("ds_mbnet_digits").eval()
    with pytest.raises(InputError, match=r"budget 0\.5: the gates of this model are not trained"):
        price_for(model, 0.5)


def test_no_images_give_no_logits_and_no_widths(gated: DSNet) -> None:
    logits, widths = gated.dynamic(torch.empty(0, 3, 16, 16, dtype=torch.float64))
    assert logits.shape == (0, 5)
    assert widths.shape == (0,)
    assert widths.dtype == torch.int64


def test_routing_in_training_mode_is_refused(gated: DSNet, images: Tensor) -> None:
    with pytest.raises(InputError, match=r"call model.eval\(\) or pass width="):
        gated.train()(images)


def test_routing_without_a_gate_is_refused(build: Build, images: Tensor) -> None:
    with pytest.raises(InputError, match="resnet_0 has no gate: pass width="):
        build("resnet without gates")(images)


# Layers -------------------------------------------------------------------------------------------


@given(
    widths=st.lists(st.integers(1, 8), min_size=1, max_size=4, unique=True).map(sorted),
    data=st.data(),
)
def test_batchnorm_keeps_statistics_of_its_own_for_each_width(
    widths: list[int], data: st.DataObject
) -> None:
    """Each width is a BatchNorm2d with the first entries of the shared affine pair."""
    norm = SlimBatchNorm2d(widths)
    twins = {width: nn.BatchNorm2d(width) for width in widths}
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        for width, twin in twins.items():
            twin.weight.copy_(norm.weight[:width])
            twin.bias.copy_(norm.bias[:width])
    for width in data.draw(st.lists(st.sampled_from(widths), max_size=6)):
        x = torch.randn(4, width, 3, 3)
        torch.testing.assert_close(norm(x), twins[width](x))
    norm.eval()
    for width, twin in twins.items():
        x = torch.randn(4, width, 3, 3)
        torch.testing.assert_close(norm(x), twin.eval()(x))
        scale, shift = norm.folded(width)
        folded = x * scale[:, None, None] + shift[:, None, None]
        torch.testing.assert_close(folded, twin(x))
        mixture = F.one_hot(torch.tensor([widths.index(width)] * 4), len(widths)).float()
        padded = F.pad(x, (0, 0, 0, 0, 0, widths[-1] - width), value=9.0)
        masked = norm(padded, mixture)
        torch.testing.assert_close(masked[:, :width], twin(x))
        assert not masked[:, width:].any()


@torch.no_grad()
def test_a_walk_reaches_every_sub_network_and_runs_what_they_share_once(
    gated: DSNet, images: Tensor
) -> None:
    calls = Counter[str]()
    watched = {"stem": gated.stem}
    for number, stage in enumerate(gated.architecture.gates):
        # The first half of a gate's block: once for each choice of the gates before it.
        watched[f"gate {number}"] = gated.gates[number]
        assert gated.block(stage, 0).gate is gated.gates[number]
    hooks = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, module in watched.items()
    ]
    ends = list(gated.walk(images, gated.every_entry))
    for hook in hooks:
        hook.remove()
    options = gated.space.options
    assert calls == {
        "stem": 1,
        **{f"gate {g}": math.prod(options[:g]) for g in range(len(gated.gates))},
    }
    assert [width for width, _, _ in ends] == list(gated.space)
    for width, features, rows in ends:
        assert torch.equal(rows, torch.arange(len(images)))
        torch.testing.assert_close(
            gated.answer(features, images, width), gated(images, width=width)
        )
