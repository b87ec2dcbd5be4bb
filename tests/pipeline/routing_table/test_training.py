"""Gates trained on a table: what they minimise, what they meet, and what they find."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dsnet import InputError
from dsnet.models.architecture import Architecture
from dsnet.routing import (
    Paths,
    RoutingTable,
    build_rows,
    oracle_losses,
    outcome,
    random_errors,
)
from dsnet.routing.tuned import put_heads
from dsnet.tasks.registry import CLASSIFICATION
from dsnet.training.table_gate import (
    GateOptions,
    TrainedGate,
    _held,
    _meet,
    _Rows,
    sgs_paths,
    train_gate,
)

from .conftest import ONE_GATE, TWO_GATES, make_table, random_network

MADDS = (40.0, 70.0, 100.0)
EXACT = GateOptions(rows=10**9)


def telling_table(n: int = 600, seed: int = 0) -> RoutingTable:
    """Each image needs one of three paths, and its feature says which."""
    generator = torch.Generator().manual_seed(seed)
    need = torch.randint(3, (n,), generator=generator)
    losses = torch.where(torch.arange(3) >= need[:, None], 0.1, 2.0)
    features = F.one_hot(need, 3) + 0.1 * torch.rand(n, 3, generator=generator)
    return make_table(losses, MADDS, features)


def two_gate_table(n: int = 400, seed: int = 0) -> RoutingTable:
    """Made-up rows for two gates of two and three routes."""
    generator = torch.Generator().manual_seed(seed)
    madds = torch.tensor([30.0, 45.0, 60.0, 50.0, 75.0, 100.0], dtype=torch.float64)
    grid = (madds / 100).reshape(2, 3)
    losses = torch.rand(n, 6, generator=generator) * 2
    return RoutingTable(
        task=CLASSIFICATION,
        paths=Paths((2, 3), madds, (grid.mean(1).float(), grid.mean(0).float())),
        features=(
            torch.rand(n, 1, 4, generator=generator),
            torch.rand(n, 2, 5, generator=generator),
        ),
        losses=losses,
        measures={"top1": losses < 1, "top5": losses < 1.5},
        confidences=(-losses).exp(),
        labels=torch.zeros(n, dtype=torch.int64),
        samples=torch.arange(n),
        views=torch.zeros(n, dtype=torch.int64),
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), gates=st.integers(1, 2), sgs=st.sampled_from([0.0, 0.5]))
def test_the_heads_follow_the_gradient_along_the_constraint(
    seed: int, gates: int, sgs: float
) -> None:
    """Against finite differences of the loss with the price solved anew each time."""
    table = two_gate_table(30, seed) if gates == 2 else telling_table(30, seed)
    target = 65.0
    options = GateOptions(sgs_weight=sgs, sgs="give_up", rows=10**9)
    generator = torch.Generator().manual_seed(seed)
    ones = [torch.ones(f.shape[2]) for f in table.features]
    batch = _Rows(table, ones, options, generator)
    weights = [
        torch.randn(routes, f.shape[2], generator=generator).requires_grad_()
        for routes, f in zip(table.paths.routes, table.features, strict=True)
    ]

    def logits_of(heads: list[torch.Tensor]) -> list[torch.Tensor]:
        return [F.linear(x, head) for x, head in zip(batch.features, heads, strict=True)]

    def solved(heads: list[torch.Tensor]) -> tuple[float, float]:
        """(price, loss) where expected multiply-adds are the target, by bisection in float64."""
        logits = [gate.detach().double() for gate in logits_of(heads)]
        low, high = -200.0, 200.0
        for _ in range(100):
            price = (low + high) / 2
            joint = table.paths.log_probabilities(logits, price)
            above = float((joint.exp() @ table.paths.madds).mean()) > target
            low, high = (price, high) if above else (low, price)
        loss = (joint.exp() * table.losses).sum(1).mean()
        if batch.taught is not None:
            loss = loss + sgs * F.nll_loss(joint, batch.taught) / len(heads)
        return price, float(loss)

    price, _ = solved(weights)
    assert _meet(logits_of(weights), table.paths, target, 0.0) == pytest.approx(price, abs=0.1)
    _held(batch, logits_of(weights), table.paths, price).backward()
    for gate, weight in enumerate(weights):
        direction = torch.randn(weight.shape, generator=generator)
        ends = [
            solved([w + (e * direction if g == gate else 0) for g, w in enumerate(weights)])[1]
            for e in (1e-3, -1e-3)
        ]
        assert weight.grad is not None
        slope = float((weight.grad * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-3, abs=2e-3)


@pytest.mark.parametrize("target", [40.0, 47.0, 55.0, 70.0, 85.0, 99.0, 100.0])
def test_every_target_is_met_to_within_one_per_cent(target: float) -> None:
    trained = train_gate(telling_table(), telling_table(300, seed=1), [target])
    assert trained.outcomes[0].madds == pytest.approx(target, rel=0.01)


def test_a_gate_that_can_know_reaches_the_oracle() -> None:
    """70 multiply-adds on average are just enough to give every image the path it needs."""
    table = telling_table()
    enough = float(oracle_losses(table).madds[-1])
    trained = train_gate(table, table, [enough], EXACT)
    assert trained.outcomes[0].loss == pytest.approx(0.1, abs=1e-6)
    assert trained.outcomes[0].measures["top1"] == 1.0


def test_with_less_the_loss_stays_close_to_the_oracle_and_below_random_routing() -> None:
    train, holdout = telling_table(), telling_table(900, seed=1)
    for target in (48.0, 55.0, 62.0):
        result = train_gate(train, holdout, [target]).outcomes[0]
        # An image is split between no two paths, so allow for a share of one price step.
        assert result.loss <= oracle_losses(holdout).at(result.madds) + 0.1
        assert 1 - result.measures["top1"] < random_errors(holdout).at(result.madds) - 0.1


def test_one_gate_serves_several_targets_by_its_price() -> None:
    table = telling_table()
    targets = (50.0, 60.0, 69.0)
    trained = train_gate(table, table, targets)
    assert list(trained.prices) == sorted(trained.prices, reverse=True)
    logits = table.logits(trained.heads)
    for target, price, result in zip(targets, trained.prices, trained.outcomes, strict=True):
        assert outcome(table, table.paths.choose(logits, price)) == result
        assert result.madds == pytest.approx(target, rel=0.01)
        alone = train_gate(table, table, [target]).outcomes[0]
        assert result.loss <= alone.loss + 0.05


def test_two_gates_meet_their_target_and_learn() -> None:
    train = two_gate_table()
    # The second gate sees, after each choice of the first, which of its routes is best there.
    best = train.losses.reshape(-1, 2, 3).argmin(2)
    features = F.one_hot(best, 5).float()
    table = RoutingTable(**{**vars(train), "features": (train.features[0], features)})
    trained = train_gate(table, table, [60.0], EXACT)
    assert trained.outcomes[0].madds == pytest.approx(60.0, rel=0.01)
    blind = train_gate(train, train, [60.0], EXACT)
    assert trained.outcomes[0].loss < blind.outcomes[0].loss - 0.1


def test_the_scale_of_a_feature_changes_nothing() -> None:
    table = telling_table()
    stretched = RoutingTable(
        **{**vars(table), "features": (table.features[0] * torch.tensor([1e-3, 1.0, 500.0]),)}
    )
    for options in (EXACT, GateOptions(rows=10**9, hidden=8)):
        plain, other = (train_gate(t, t, [60.0], options) for t in (table, stretched))
        assert plain.outcomes[0].shares == pytest.approx(other.outcomes[0].shares, abs=0.01)
        torch.testing.assert_close(
            stretched.logits(other.heads)[0],
            table.logits(plain.heads)[0],
            rtol=1e-2,
            atol=1e-2,
        )


def test_a_dead_feature_keeps_a_weight_of_zero() -> None:
    table = telling_table()
    features = torch.cat([table.features[0], torch.zeros(len(table), 1, 1)], 2)
    padded = RoutingTable(**{**vars(table), "features": (features,)})
    (head,) = train_gate(padded, padded, [60.0]).heads
    assert isinstance(head, torch.nn.Linear)
    assert head.weight[:, 3].tolist() == [0.0, 0.0, 0.0]


def test_a_hidden_layer_finds_what_a_linear_head_cannot() -> None:
    # Wide where exactly one of two features is on.
    bits = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
    hard = bits[:, 0] != bits[:, 1]
    bits = bits + 0.2 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    losses = torch.stack([hard * 2.0, torch.zeros(200)], 1)
    table = make_table(losses, [50.0, 100.0], torch.cat([bits, torch.ones(200, 1)], 1))
    linear = train_gate(table, table, [75.0], EXACT).outcomes[0].loss
    deep = train_gate(table, table, [75.0], GateOptions(rows=10**9, hidden=16)).outcomes[0].loss
    assert linear > 0.3
    assert deep == pytest.approx(0.0, abs=1e-6)


def test_sgs_teaches_the_two_ends() -> None:
    top1 = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    measures = {"top1": top1, "top5": torch.ones_like(top1)}
    assert sgs_paths(CLASSIFICATION, measures, "off") is None
    for strategy, expected in {"try_best": [0, 0, 2, 2, 2], "give_up": [0, 0, 2, 0, 0]}.items():
        paths = sgs_paths(CLASSIFICATION, measures, strategy)  # type: ignore[arg-type]
        assert paths is not None
        assert paths.tolist() == expected


def test_sgs_alone_sends_the_easy_to_the_smallest_and_the_hard_to_the_widest() -> None:
    table = telling_table()
    options = GateOptions(classification=0, complexity=0, sgs_weight=1, sgs="try_best", rows=10**9)
    trained = train_gate(table, table, (), options)
    easy = float(table.headline[:, 0].float().mean())
    assert trained.prices == (0.0,)
    assert trained.outcomes[0].shares == pytest.approx((easy, 0, 1 - easy))


def test_without_a_target_a_dearer_complexity_makes_a_slimmer_network() -> None:
    table = telling_table()
    giga = RoutingTable(
        **{**vars(table), "paths": Paths((3,), table.paths.madds * 1e7, table.paths.costs)}
    )
    averages = [
        train_gate(giga, giga, (), GateOptions(complexity=weight)).outcomes[0].madds
        for weight in (0.01, 3.0, 30.0)
    ]
    assert averages[0] > averages[1] > averages[2]


def test_what_is_kept_is_the_best_look_at_the_held_out_table() -> None:
    looks: list[tuple[int, TrainedGate]] = []
    train, holdout = telling_table(60), telling_table(200, seed=3)
    trained = train_gate(
        train,
        holdout,
        [55.0],
        GateOptions(check_every=5, patience=3, lr=0.5),
        report=lambda step, best: looks.append((step, best)),
    )
    assert [step for step, _ in looks] == list(range(5, trained.steps + 1, 5))
    losses = [best.loss for _, best in looks]
    assert losses == sorted(losses, reverse=True)
    assert trained.loss == losses[-1]
    assert trained.steps == 300 or trained.steps == trained.step + 15


def test_the_same_seed_gives_the_same_gate() -> None:
    table = telling_table()
    options = GateOptions(rows=100, hidden=4, steps=40, seed=3)
    one, two = (train_gate(table, table, [60.0], options) for _ in range(2))
    for ours, theirs in zip(
        one.heads[0].state_dict().values(), two.heads[0].state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert one.prices == two.prices


@pytest.mark.parametrize("architecture", [ONE_GATE, TWO_GATES], ids=["one gate", "two gates"])
def test_an_installed_gate_routes_the_network_as_on_the_table(architecture: Architecture) -> None:
    model = random_network(architecture)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(80, 3, 1, 1, generator=generator) * 4 + torch.randn(
        80, 3, 8, 8, generator=generator
    )
    labels = torch.randint(6, (80,), generator=generator)
    table = build_rows(model, images, labels)
    target = float(table.paths.madds.mean())
    trained = train_gate(table, table, [target])
    put_heads(model, trained.heads)
    widths = model.route(images, trained.prices[0])
    average = sum(model.madds(int(width)) for width in widths) / 80
    assert average == pytest.approx(trained.outcomes[0].madds)
    assert len(widths.unique()) > 1


def test_a_target_out_of_range_is_refused_with_the_range() -> None:
    table = telling_table()
    with pytest.raises(InputError, match="expected 40 to 100, which is what"):
        train_gate(table, table, [30.0])
