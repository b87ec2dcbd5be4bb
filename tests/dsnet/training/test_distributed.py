"""Two workers: gradients reduced once a step while the last backward pass runs; sums of counts."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dsnet import DSNet
from dsnet.training import (
    GradientReducer,
    SupernetStep,
    average_gradients,
    bootstrap_step,
    make_teacher,
)
from dsnet.training.distributed import total_each
from tests import forked
from tests.dsnet.conftest import ARCHITECTURES

WORKERS = 2
STEPS: dict[str, Callable[..., object]] = {
    method: lambda model, teacher, *batch, reducer=None, method=method: SupernetStep(
        model, teacher, method
    )(*batch, reducer=reducer)
    for method in ("ensemble", "distill", "labels")
}


class Collectives(TorchDispatchMode):
    """The bytes of every all-reduce, and how many operators ran after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []
        self.convolutions_after = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(function)
        if "allreduce" in name:
            self.bytes += [tensor.nbytes for tensor in args[0]]
        elif "convolution_backward" in name and self.bytes:
            self.convolutions_after += 1
        return function(*args, **(kwargs or {}))


def networks() -> list[DSNet]:
    torch.manual_seed(0)
    made = [DSNet(architecture).train() for architecture in ARCHITECTURES.values()]
    for model in made:
        for parameter in model.slimming_parameters():
            parameter.requires_grad_(False)
    return made


def batch_of(rank: int, seed: int = 0) -> tuple[Tensor, Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed * WORKERS + rank)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    return images, torch.randint(5, (4,), generator=generator), [1]


def gradients(model: DSNet) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def as_one_call(rank: int) -> None:
    for model in networks():
        for name, step in STEPS.items():
            plain, overlapped = copy.deepcopy(model), copy.deepcopy(model)
            teacher = make_teacher(model)
            step(plain, teacher, *batch_of(rank))
            average_gradients(plain.parameters())
            reducer = GradientReducer(overlapped.parameters(), bucket_bytes=2000)
            step(overlapped, teacher, *batch_of(rank), reducer=reducer)
            reducer.finish()
            expected, found = gradients(plain), gradients(overlapped)
            assert expected.keys() == found.keys()
            for parameter in expected:
                assert torch.equal(found[parameter], expected[parameter]), (name, parameter)


def once_a_step(rank: int) -> None:
    """Two micro-batches, one optimizer step: one reduction of what learns."""
    for model in networks():
        teacher = make_teacher(model)
        learning = [p for p in model.parameters() if p.requires_grad]
        reducer = GradientReducer(learning, bucket_bytes=2000)
        with Collectives() as collectives:
            bootstrap_step(model, teacher, *batch_of(rank, seed=1))
            assert not collectives.bytes
            bootstrap_step(model, teacher, *batch_of(rank, seed=2), reducer=reducer)
            reducer.finish()
        assert sum(collectives.bytes) == sum(p.nbytes for p in learning)
        assert len(collectives.bytes) > 2
        assert collectives.convolutions_after > 0


def without_arming(rank: int) -> None:
    model, *_ = networks()
    teacher = make_teacher(model)
    plain = copy.deepcopy(model)
    bootstrap_step(plain, teacher, *batch_of(rank))
    average_gradients(plain.parameters())
    reducer = GradientReducer(model.parameters())
    bootstrap_step(model, teacher, *batch_of(rank))
    reducer.finish()
    for name, gradient in gradients(plain).items():
        assert torch.equal(gradients(model)[name], gradient), name


def armed_too_early(rank: int) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    reducer = GradientReducer([weight])
    reducer.arm()
    weight.sum().backward()
    with pytest.raises(RuntimeError, match="before the last backward pass"):
        weight.sum().backward()
    reducer.finish()


def summed_by_dtype(rank: int) -> None:
    whole = torch.tensor([[2**53 + 1, 5], [rank, 7]])  # past what float64 holds
    shares, alone = torch.tensor([0.25, rank], dtype=torch.float64), torch.tensor(3)
    with Collectives() as collectives:
        total_each([whole, shares, alone], torch.device("cpu"))
    assert whole.tolist() == [[2**54 + 2, 10], [1, 14]]
    assert (shares.tolist(), alone.item()) == ([0.5, 1.0], 6)
    assert len(collectives.bytes) == 2


CHECKS = (as_one_call, once_a_step, without_arming, armed_too_early, summed_by_dtype)


def worker(rank: int, rendezvous: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORKERS
    )
    for check in CHECKS:
        check(rank)
    dist.destroy_process_group()


def test_two_workers_average_each_gradient_once_a_step_while_the_last_backward_runs(
    tmp_path: Path,
) -> None:
    """With real gloo: the values of one call at the end, bit for bit, in any kind of step; one
    reduction of the learning parameters' bytes for two micro-batches, under way before the last
    backward pass ends; and a reducer that is armed too early says so. Counts are summed exactly,
    in one call for each dtype."""
    forked.run(worker, str(tmp_path / "rendezvous"), processes=WORKERS)


def test_one_worker_reduces_nothing() -> None:
    model, *_ = networks()
    reducer = GradientReducer(model.parameters())
    bootstrap_step(model, make_teacher(model), *batch_of(0), reducer=reducer)
    before = {name: gradient.clone() for name, gradient in gradients(model).items()}
    reducer.finish()
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, before[name]), name
