"""The second look: a table's paths against enumeration, and against the network that runs them."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dsnet
from dsnet import DSNet, InputError, Predictor, normalize
from dsnet.inference.export import export, write_onnx
from dsnet.models.architecture import Architecture, Stage
from dsnet.nn.gate import make_constant, make_head
from dsnet.nn.look import NEVER
from dsnet.routing import (
    RoutingTable,
    average_madds,
    build_rows,
    paths_of,
)
from dsnet.routing.budget import calibrate_prices, prices_from_logits
from dsnet.routing.looks import MOST_ROUTES, Look, LookPaths, check_looks, look_paths
from dsnet.routing.looks import looking as with_looks
from dsnet.routing.tuned import TunedGate, fitted, put_heads
from dsnet.runtime.exported import Exported
from dsnet.training.table_gate import GateOptions, train_gate
from tests.dsnet.inference.networks import network, pictures

ROUTES = 4
PRICES = (0.0, 1.0, 30.0, -30.0)
LOOKING = Architecture(
    name="looking",
    family="resnet",
    stem=Stage((8,)),
    stages=(Stage((8,)), Stage((8, 16, 24, 32), blocks=2, stride=2, gated=True)),
    num_classes=7,
    resolution=13,
)
SEPARABLE = Architecture(
    name="separable",
    family="mbnet",
    stem=Stage((4, 8), stride=2),
    stages=(Stage((4, 8, 12), stride=2, gated=True), Stage((8, 12, 16))),
    num_classes=3,
    routes=((0, 2),),
    resolution=16,
)


def looking(architecture: Architecture, seed: int = 0) -> DSNet:
    """A network whose looks send images every way that they can."""
    model = network(architecture, seed)
    routes, evidence = model.space.routes, model.task.evidence()
    assert evidence is not None
    x = prepared(model, pictures(model, 64))
    heads: list[nn.Module] = []
    for route in routes[:-1]:
        seen = evidence(model(x, width=route)).detach()
        head = make_head(seen.shape[1], len(routes), hidden=6)
        first, bias, last = head.parameters()
        with torch.no_grad():  # half of the images on either side of each unit
            bias.copy_(-first @ seen.mean(0))
        nn.init.normal_(last)
        heads.append(head)
    gate = model.gates[0].slimming
    assert gate is not None
    put_heads(model, [gate, *heads])
    return model


@pytest.fixture(params=[LOOKING, SEPARABLE], ids=["dense", "separable, some routes"])
def model(request: pytest.FixtureRequest) -> DSNet:
    return looking(request.param)


def prepared(model: DSNet, images: Tensor) -> Tensor:
    return normalize(images, model.metadata.mean, model.metadata.std)


def heads_of(model: DSNet) -> list[nn.Module]:
    (gate,), looks = model.gates, model.looks
    assert gate.slimming is not None and looks is not None
    return [gate.slimming, *looks]


def steps_of(path: int, routes: int) -> list[int]:
    """The routes whose tails a path runs, in their order."""
    return [route for route in range(routes) if path + 1 & 1 << route]


# The paths, against enumeration ------------------------------------------------------------------


@given(seed=st.integers(0, 2**31 - 1), routes=st.integers(2, 5), price=st.sampled_from(PRICES))
@settings(max_examples=30)
def test_a_paths_probability_is_the_product_of_its_choices(
    seed: int, routes: int, price: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    costs = torch.rand(routes, generator=generator), torch.rand(routes, routes, generator=generator)
    paths = LookPaths((routes,), torch.rand(2**routes - 1).double(), costs)
    first = torch.randn(3, 1, routes, generator=generator)
    looks = torch.randn(3, routes, routes, generator=generator)
    looks = looks.where(torch.ones(routes, routes).triu() > 0, NEVER)
    joint = paths.log_probabilities([first, looks], price)
    torch.testing.assert_close(joint.exp().sum(1), torch.ones(3))
    odds = (first[:, 0] - price * costs[0]).softmax(1)
    going = (looks - price * costs[1]).softmax(2)
    chosen = paths.choose([first, looks], price)
    for row in range(3):
        for path in range(len(paths)):
            ran = steps_of(path, routes)
            expected = float(odds[row, ran[0]])
            for here, there in zip(ran, [*ran[1:], ran[-1]], strict=True):
                expected *= float(going[row, here, there])
            assert math.exp(joint[row, path]) == pytest.approx(expected, rel=1e-3, abs=1e-6)
        at, ran = int(odds[row].argmax()), []
        while at not in ran:
            ran.append(at)
            at = int(going[row, at].argmax())
        assert steps_of(int(chosen[row]), routes) == ran


def test_a_path_costs_the_prefix_once_and_every_tail_that_it_runs(model: DSNet) -> None:
    paths, routes = look_paths(paths_of(model)), model.space.routes
    prefix = model.prefix_madds()
    for path, madds in enumerate(paths.madds.tolist()):
        tails = [model.madds(routes[at]) - prefix for at in steps_of(path, len(routes))]
        assert madds == prefix + sum(tails)
    assert paths.madds[paths.widest] == model.madds(routes[-1])
    assert paths.ends(torch.arange(3)).tolist() == [0, 1, 1]


@pytest.mark.parametrize("family", ["resnet", "mbnet"])
def test_the_prefix_is_what_runs_before_the_gates_choice(family: str) -> None:
    """Counted from what the layers of segment 0 see and give."""
    model = network(LOOKING if family == "resnet" else SEPARABLE, 0)
    counted = 0

    def conv(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        each = 1 if "Depthwise" in type(layer).__name__ else inputs[0].shape[1]
        counted += each * layer.kernel**2 * output[0].numel()

    def gate(layer: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        nonlocal counted
        channels, reduced = inputs[0].shape[1], layer.features
        counted += inputs[0][0].numel() + 2 * channels * reduced

    for module in model.modules():
        if "Conv2d" in type(module).__name__:
            module.register_forward_hook(conv)
        elif type(module).__name__ == "Gate":
            module.register_forward_hook(gate)
    model.segment(0, prepared(model, pictures(model, 1)), model.space[0])
    assert model.prefix_madds() == counted


# Table, network and backends ---------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("price", PRICES)
def test_the_table_says_where_the_network_goes_and_what_it_counts(
    model: DSNet, price: float
) -> None:
    x, labels = prepared(model, pictures(model, 90)), torch.arange(90) % 3
    table = with_looks(build_rows(model, x, labels))
    path = table.paths.choose(table.logits(heads_of(model)), price)
    outputs, widths, madds = model.routed(x, price)
    assert madds.double().tolist() == table.paths.madds[path].tolist()
    routes = torch.tensor(model.space.routes)
    assert torch.equal(widths, routes[table.paths.ends(path)])
    assert torch.equal(widths, model.route(x, price))
    assert madds.double().mean() == average_madds(table.paths, path)
    losses = model.task.loss(outputs, labels)
    torch.testing.assert_close(losses, table.losses.gather(1, path[:, None])[:, 0])
    for width in widths.unique().tolist():
        rows = widths == width
        torch.testing.assert_close(outputs[rows], model(x[rows], width=width), atol=1e-4, rtol=1e-4)
    if price == 0:
        once = {model.madds(route) for route in model.space.routes}
        assert once & set(madds.tolist()) and set(madds.tolist()) - once, "some go on, some do not"


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("price", PRICES)
def test_the_predictor_is_the_network(model: DSNet, backend: str, count: int, price: float) -> None:
    images = pictures(model, count)
    expected = model.routed(prepared(model, images), price)
    found = Predictor(model, backend=backend, price=price).routed(images)  # type: ignore[arg-type]
    assert torch.equal(found.widths, expected.widths)
    assert torch.equal(found.madds, expected.madds)
    torch.testing.assert_close(found.outputs, expected.outputs.detach(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_every_image_may_look_twice(model: DSNet, backend: str) -> None:
    routes = len(model.space.routes)
    (gate,) = model.gates
    onward = [
        make_constant(min(5, model.architecture.num_classes), routes, routes - 1)
        for _ in range(routes - 1)
    ]
    put_heads(model, [make_constant(gate.features, routes, 0), *onward])
    images = pictures(model, 9)
    both = model.madds(model.space.routes[0]) + model.tail_madds(model.space.routes[-1])
    found = Predictor(model, backend=backend).routed(images)  # type: ignore[arg-type]
    assert found.madds.tolist() == [both] * 9
    assert found.widths.tolist() == [model.space.routes[-1]] * 9


def test_a_directory_keeps_its_looks_for_every_budget_and_runtime(
    model: DSNet, tmp_path: Path
) -> None:
    images = pictures(model, 24)
    prices = calibrate_prices(model, [prepared(model, images)])
    targets = [model.madds(model.space.routes[-1]) * share for share in (0.7, 0.9)]
    gates = [TunedGate(tuple(heads_of(model)), target, 0.1, prices) for target in targets]
    directory = dsnet.save(fitted(model, gates[1]), tmp_path / "model", gates)
    write_onnx(dsnet.load(directory), directory)
    exported = Exported(directory)
    for budget in (None, 0.7, 0.8, 0.9):
        outputs, widths, madds = Predictor(directory, budget).routed(images)
        found, chosen, spent = exported(images.numpy(), budget)
        assert chosen.tolist() == widths.tolist()
        assert spent.tolist() == madds.tolist()
        torch.testing.assert_close(torch.from_numpy(found), outputs, atol=1e-3, rtol=1e-3)
        loaded = dsnet.load(directory, budget=budget)
        assert loaded.routed_madds(prepared(model, images)).tolist() == madds.tolist()


# Training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", ["second", "both"])
def test_a_gate_with_looks_learns_to_stop_where_the_slim_tail_will_do(
    look: Look,
) -> None:
    """On images of which half are the slimmest tail's, as its own confidence tells."""
    model = network(LOOKING, 0)
    n = 600
    x, labels = prepared(model, pictures(model, n)), torch.zeros(n, dtype=torch.int64)
    base = build_rows(model, x, labels)
    easy = torch.arange(n) % 2 == 0
    assert base.evidence is not None
    evidence = torch.where(easy[:, None, None], -0.1, -2.0).expand_as(base.evidence)
    losses = torch.where(easy[:, None], 0.1, torch.tensor([4.0, 3.0, 2.0, 0.2]))
    made = {**vars(base), "evidence": evidence, "losses": losses}
    table = RoutingTable(**made)
    madds = [model.madds(route) for route in model.space.routes]
    target = 0.5 * madds[0] + 0.5 * (madds[0] + model.tail_madds(model.space.routes[-1]))
    gate = train_gate(table, table, [target], GateOptions(steps=200, seed=1, look=look))
    (outcome,) = gate.outcomes
    assert outcome.loss == pytest.approx(0.15, abs=0.02)
    assert outcome.madds == pytest.approx(target, rel=0.02)
    assert outcome.shares[0] == pytest.approx(0.5, abs=0.02)


def test_a_head_that_always_picks_one_route_does_so_at_any_price() -> None:
    head = make_constant(5, 4, 2)
    scores = head(torch.randn(10, 5)) - torch.arange(4) * 2.0**20
    assert scores.argmax(1).tolist() == [2] * 10


# Refusals ----------------------------------------------------------------------------------------


def test_what_cannot_look_again_says_why() -> None:
    many = Stage(tuple(range(4, 4 * (MOST_ROUTES + 2), 4)), gated=True)
    for stages in (
        (Stage((4,)),),
        (many,),
        (Stage((4,), gated=True),),
        (*2 * (Stage((4, 8), gated=True),),),
    ):
        wide = Architecture(name="x", family="mbnet", stem=Stage((4,)), stages=stages)
        with pytest.raises(InputError, match="expected one gate with 2 to 8 routes"):
            check_looks(DSNet(wide))


def test_looks_that_do_not_fit_are_refused(model: DSNet) -> None:
    gate, *looks = heads_of(model)
    with pytest.raises(InputError, match="for 1 gates and for no look or"):
        put_heads(model, [gate, *looks, looks[0]])
    with pytest.raises(InputError, match="expected a slimming head from"):
        put_heads(model, [gate, *(make_head(2, 9) for _ in looks)])
    with pytest.raises(InputError, match="one gate without looks"):
        prices_from_logits(model, torch.zeros(3, len(model.space.routes)))


def test_an_exported_file_that_looks_is_checked_against_the_model(
    model: DSNet, tmp_path: Path
) -> None:
    assert export(model, tmp_path / "model.onnx").is_file()
