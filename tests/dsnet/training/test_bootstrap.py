"""Stage I: the terms of the loss, what each width learns from, and what a step leaves behind."""

import copy
from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet import DSNet, InputError, Width
from dsnet.models.create import of_one_width
from dsnet.nn.layers import BATCHNORM_MOMENTUM, SlimBatchNorm2d
from dsnet.training import (
    SupernetStep,
    bootstrap_step,
    make_teacher,
    random_widths,
    update_teacher,
    warmed_decay,
)
from dsnet.training.bootstrap import Method

Build = Callable[..., DSNet]
Step = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def teacher_of(model: DSNet) -> DSNet:
    teacher = make_teacher(model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(0.9).add_(0.01 * torch.randn_like(parameter))
    return teacher


def student_of(model: DSNet) -> DSNet:
    return copy.deepcopy(model).train()


def naive_step(model: DSNet, images: Tensor, *terms: tuple[str, int | Width, Tensor]) -> Step:
    """One whole forward and backward for each (name, width, target), none of it shared."""
    losses = {}
    for name, width, target in terms:
        losses[name] = cross_entropy(model(images, width=width), target)
        losses[name].backward()
    return losses, gradients(model), buffers(model)


def buffers(model: DSNet) -> dict[str, Tensor]:
    return dict(model.named_buffers())


def gradients(model: DSNet) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: DSNet, losses: dict[str, Tensor], expected: Step) -> None:
    # The losses are float32 by design, all the rest here float64.
    for found, wanted in zip((losses, gradients(model), buffers(model)), expected, strict=True):
        assert found.keys() == wanted.keys()
        for name in found:
            error = (found[name] - wanted[name]).norm()
            assert error <= 1e-5 * wanted[name].norm() + 1e-7, name


@pytest.mark.parametrize("ensemble", [True, False])
def test_a_step_equals_one_forward_and_backward_for_each_width(
    network: DSNet, images: Tensor, labels: Tensor, ensemble: bool
) -> None:
    """Losses, summed gradients and running statistics, though the step shares the slim prefix."""
    teacher = teacher_of(network)
    largest = network.space.largest
    target, *others = (teacher(images, width=w).softmax(1) for w in (largest, 1, 2))
    expected = naive_step(
        student_of(network),
        images,
        ("random_0", 1, target),
        ("random_1", 2, target),
        ("smallest", 0, (target + sum(others)) / 3 if ensemble else target),
        ("largest", largest, smoothed(labels, 5, 0.1)),
    )
    model = student_of(network)
    losses = bootstrap_step(
        model, teacher, images, labels, [1, 2], ensemble=ensemble, label_smoothing=0.1
    )
    assert_same(model, losses, expected)


def test_distillation_teaches_from_the_students_own_detached_largest(
    network: DSNet, images: Tensor, labels: Tensor
) -> None:
    largest = network.space.largest
    target = student_of(network)(images, width=largest).detach().softmax(1)
    expected = naive_step(
        student_of(network),
        images,
        ("largest", largest, smoothed(labels, 5, 0.1)),
        ("random_0", 1, target),
        ("smallest", 0, target),
    )
    model = student_of(network)
    step = SupernetStep(model, method="distill", label_smoothing=0.1)
    assert_same(model, step(images, labels, [1]), expected)


def biased(teacher: DSNet, label: int, by: float) -> DSNet:
    """A teacher that is surer of one class, whatever it sees."""
    with torch.no_grad():
        teacher.head.bias[label] += by
    return teacher


@pytest.mark.parametrize("ensemble", [True, False])
def test_a_guarded_width_learns_from_labels_where_its_teacher_knows_less(
    network: DSNet, images: Tensor, labels: Tensor, ensemble: bool
) -> None:
    """A teacher that is sure of one wrong class is not imitated; one that is sure of the right one
    is, as without the guard."""
    method = "ensemble" if ensemble else "plain"
    wrong = biased(teacher_of(network), int((labels[0] + 1) % 5), 50.0)
    by_labels, guarded = student_of(network), student_of(network)
    expected = SupernetStep(by_labels, None, "labels", 0.1)(images, labels, [1])
    assert_same(
        guarded,
        SupernetStep(guarded, wrong, method, 0.1, guarded=True)(images, labels, [1]),
        (expected, gradients(by_labels), buffers(by_labels)),
    )
    same = torch.full_like(labels, int(labels[0]))
    right = biased(teacher_of(network), int(labels[0]), 4.0)
    plain, guarded = student_of(network), student_of(network)
    expected = SupernetStep(plain, right, method, 0.1)(images, same, [1])
    assert_same(
        guarded,
        SupernetStep(guarded, right, method, 0.1, guarded=True)(images, same, [1]),
        (expected, gradients(plain), buffers(plain)),
    )


def test_plain_labels_teach_every_width_alike(
    network: DSNet, images: Tensor, labels: Tensor
) -> None:
    target = smoothed(labels, 5, 0.2)
    expected = naive_step(
        student_of(network),
        images,
        ("random_0", 1, target),
        ("smallest", 0, target),
        ("largest", network.space.largest, target),
    )
    model = student_of(network)
    step = SupernetStep(model, method="labels", label_smoothing=0.2)
    assert_same(model, step(images, labels, [1]), expected)


def test_a_network_of_one_width_learns_from_the_labels_once(
    network: DSNet, images: Tensor, labels: Tensor
) -> None:
    architecture = of_one_width(network.architecture, 1)
    alone = DSNet(architecture, network.metadata).double().train()
    teacher = teacher_of(alone)
    target = smoothed(labels, 5, 0.1)
    expected = naive_step(student_of(alone), images, ("largest", 0, target))
    for method in get_args(Method):
        model = student_of(alone)
        step = SupernetStep(model, teacher, method, label_smoothing=0.1)
        assert_same(model, step(images, labels, []), expected)
    assert random_widths(alone, 2, torch.Generator()) == []


def test_every_parameter_but_the_slimming_heads_learns_in_each_step(
    network: DSNet, images: Tensor, labels: Tensor
) -> None:
    model = network.train()
    bootstrap_step(model, teacher_of(model), images, labels, [1])
    slimming = {id(parameter) for parameter in model.slimming_parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in slimming:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
            assert parameter.grad.isfinite().all(), name


def test_the_teacher_is_left_as_it_was(network: DSNet, images: Tensor, labels: Tensor) -> None:
    teacher = teacher_of(network)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    bootstrap_step(network.train(), teacher, images, labels, [1, 2])
    assert all(p.grad is None for p in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_largest_width_comes_last_so_that_its_backward_completes_every_gradient(
    gated: DSNet, images: Tensor, labels: Tensor
) -> None:
    """One all-reduce at the end then covers every parameter."""
    model = gated.train()
    slimming = {id(parameter) for parameter in model.slimming_parameters()}
    learning = {n for n, p in model.named_parameters() if id(p) not in slimming}
    order: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))
    bootstrap_step(model, teacher_of(model), images, labels, [1, 2])
    # The slim terms reach the stem together, once; then the largest reaches everything, once.
    assert order.count("stem.conv.weight") == 2
    largest = order[order.index("stem.conv.weight") + 1 :]
    assert sorted(largest) == sorted(learning)


def test_only_the_largest_width_drops_out(build: Build, images: Tensor) -> None:
    model = build("mbnet with one gate", dropout=0.5).train()
    features = torch.ones(1, 20, 2, 2, dtype=torch.float64)
    dropped = model.answer(features, images, model.space.largest)
    kept = model.answer(features, images, model.space[-1])
    assert not torch.equal(model.answer(features, images, model.space.largest), dropped)
    torch.testing.assert_close(
        model.answer(features, images, model.space[-1]), kept, rtol=0, atol=0
    )
    model.eval()
    torch.testing.assert_close(model.answer(features, images, model.space.largest), kept)


def test_running_statistics_move_once_for_each_width_that_ran(
    build: Build, images: Tensor, labels: Tensor
) -> None:
    """With two random widths the slim stem has moved three times: the closed form."""
    model = build("mbnet with one gate").train()
    stem = model.stem
    norm = stem.get_submodule("bn")
    assert isinstance(norm, SlimBatchNorm2d)
    slim = model.space[0].channels[0]
    before = norm.statistics(slim)[0].clone()
    weight = stem.get_submodule("conv").get_parameter("weight").detach()[:slim]
    batch = F.conv2d(images, weight, stride=2, padding=1).mean((0, 2, 3))
    bootstrap_step(model, teacher_of(model), images, labels, [1, 2])
    kept = (1 - BATCHNORM_MOMENTUM) ** 3
    torch.testing.assert_close(norm.statistics(slim)[0], kept * before + (1 - kept) * batch)


def test_a_random_width_outside_the_space_is_refused(
    network: DSNet, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises(InputError, match="width must be 0 to"):
        bootstrap_step(network, network, images, labels, [99])


def test_random_widths_are_all_between_the_smallest_and_the_largest(network: DSNet) -> None:
    generator = torch.Generator().manual_seed(0)
    space = network.space
    inner = {i for i in range(1, len(space)) if space[i] != space.largest}
    draws = [random_widths(network, 1, generator) for _ in range(200)]
    assert {width for draw in draws for width in draw} == inner
    every = random_widths(network, 99, generator)
    assert len(every) == len(set(every)) == len(inner)


def test_the_teacher_is_an_exponential_moving_average(network: DSNet) -> None:
    """After three updates towards constant weights: t + (1 - 0.9^3)(m - t)."""
    teacher = teacher_of(network)
    start = {name: value.clone() for name, value in teacher.state_dict().items()}
    for _ in range(3):
        update_teacher(teacher, network, decay=0.9)
    for name, goal in network.state_dict().items():
        expected = start[name] + (1 - 0.9**3) * (goal - start[name])
        torch.testing.assert_close(teacher.state_dict()[name], expected, msg=name)


def test_the_teacher_follows_at_the_papers_pace_by_default(build: Build) -> None:
    model = build("mbnet with one gate")
    teacher = make_teacher(model)
    with torch.no_grad():
        model.classifier.bias.add_(1)
    moved = teacher.classifier.bias + 0.003
    update_teacher(teacher, model)
    torch.testing.assert_close(teacher.classifier.bias, moved)


def test_a_young_teacher_averages_over_the_last_ninth_of_the_training() -> None:
    assert warmed_decay(0.997, 0) == 0.1
    for updates in (90, 900, 2000):
        assert 1 / (1 - warmed_decay(0.997, updates)) == pytest.approx(updates / 9, rel=0.12)


def test_a_grown_teacher_averages_over_what_it_was_told() -> None:
    assert (
        warmed_decay(0.997, 2989) < 0.997 == warmed_decay(0.997, 2990) == warmed_decay(0.997, 10**6)
    )
    assert warmed_decay(0.0, 10**6) == 0.0
