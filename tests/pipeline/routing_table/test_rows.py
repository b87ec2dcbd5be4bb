"""A routing table says of each image just what the network itself would do with it."""

import pytest
import torch
import torch.nn.functional as F

from dsnet import DSNet, InputError
from dsnet.routing import build_rows, join, outcome, paths_of

from .conftest import TWO_GATES, random_network

PRICES = (-1.0, 0.0, 0.5)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    colours = torch.randn(60, 3, 1, 1, generator=generator) * 4  # for gates to tell them apart by
    return torch.randn(60, 3, 8, 8, generator=generator) + colours


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return torch.randint(6, (60,), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_every_path_has_the_loss_and_the_answers_of_its_sub_network(
    network: DSNet, images: torch.Tensor, labels: torch.Tensor
) -> None:
    table = build_rows(network, images, labels)
    top1, top5, confidences = table.measures["top1"], table.measures["top5"], table.confidences
    assert confidences is not None
    assert len(table.paths) == len(network.space.routes) == table.losses.shape[1]
    for path, route in enumerate(network.space.routes):
        logits = network(images, width=route)
        assert int(table.paths.madds[path]) == network.madds(route)
        torch.testing.assert_close(
            table.losses[:, path], F.cross_entropy(logits, labels, reduction="none")
        )
        torch.testing.assert_close(confidences[:, path], logits.exp().amax(1) / logits.exp().sum(1))
        order = logits.argsort(1, descending=True)
        assert top1[:, path].tolist() == (order[:, 0] == labels).tolist()
        assert top5[:, path].tolist() == (order[:, :5] == labels[:, None]).any(1).tolist()


@pytest.mark.parametrize("price", PRICES)
@torch.no_grad()
def test_choices_from_the_table_are_the_networks_own(
    network: DSNet, images: torch.Tensor, labels: torch.Tensor, price: float
) -> None:
    table = build_rows(network, images, labels)
    logits = table.logits([gate.logits for gate in network.gates])
    path = table.paths.choose(logits, price)
    assert len(path.unique()) > 1
    assert [network.space.routes[p] for p in path] == network.route(images, price).tolist()


@pytest.mark.parametrize("price", PRICES)
@torch.no_grad()
def test_accuracy_and_multiply_adds_equal_those_of_a_dynamic_run_in_count(
    network: DSNet, images: torch.Tensor, labels: torch.Tensor, price: float
) -> None:
    table = build_rows(network, images, labels)
    logits = table.logits([gate.logits for gate in network.gates])
    result = outcome(table, table.paths.choose(logits, price))
    answers, widths = network.dynamic(images, price)
    assert round(result.measures["top1"] * 60) == int((answers.argmax(1) == labels).sum())
    assert round(result.madds * 60) == sum(network.madds(int(width)) for width in widths)


def test_rows_do_not_depend_on_the_batch_they_came_in(
    network: DSNet, images: torch.Tensor, labels: torch.Tensor
) -> None:
    whole = build_rows(network, images, labels)
    parts = [
        build_rows(network, images[rows], labels[rows], rows)
        for rows in (torch.arange(25), torch.arange(25, 60))
    ]
    joined = join(parts)
    assert joined.samples.tolist() == list(range(60))
    torch.testing.assert_close(joined.losses, whole.losses)
    for ours, theirs in zip(joined.features, whole.features, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_later_gates_feature_is_held_for_each_choice_of_the_gates_before_it(
    images: torch.Tensor, labels: torch.Tensor
) -> None:
    model = random_network(TWO_GATES)
    table = build_rows(model, images, labels)
    assert [features.shape for features in table.features] == [(60, 1, 4), (60, 3, 6)]
    for entry in range(3):
        width = model.space[model.space.index_of((entry, 0))]
        with torch.no_grad():
            x, _ = model.segment(0, images, width)
            _, reduced = model.segment(1, x, width)
        torch.testing.assert_close(table.features[1][:, entry], reduced)


def test_a_network_with_too_many_paths_is_refused() -> None:
    model = random_network(TWO_GATES)
    wide = DSNet(
        type(model.architecture)(
            **{
                **vars(TWO_GATES),
                "stages": tuple(
                    type(stage)(**{**vars(stage), "channels": tuple(range(8, 26, 2))})
                    for stage in TWO_GATES.stages
                ),
            }
        )
    )
    with pytest.raises(InputError, match=r"at most 64 joint paths, two_gates has 81 \(9 x 9\)"):
        paths_of(wide)


def test_a_network_in_training_mode_is_refused(
    network: DSNet, images: torch.Tensor, labels: torch.Tensor
) -> None:
    with pytest.raises(InputError, match="eval mode"):
        build_rows(network.train(), images, labels)
