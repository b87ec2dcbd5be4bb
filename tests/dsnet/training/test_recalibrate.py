"""Recalibration: the statistics of every width are those of the images, whoever saw which."""

import copy
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import dsnet
from dsnet import DSNet
from dsnet.nn.layers import SlimBatchNorm2d
from dsnet.training import recalibrate
from tests import forked

Build = Callable[..., DSNet]


def direct_statistics(model: DSNet, batches: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and unbiased variance of everything that each layer sees at each width.

    One whole forward for each sub-network and batch, in training mode, every input kept; what two
    sub-networks have in common is kept once.
    """
    model = copy.deepcopy(model).train()
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, x: Tensor) -> None:
        key = f"{name} at {x.shape[1]}"
        if not any(x.shape == other.shape and torch.equal(x, other) for other in seen[key]):
            seen[key].append(x)

    for name, layer in model.named_modules():
        if isinstance(layer, SlimBatchNorm2d):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs[0]))
    with torch.no_grad():
        for batch in batches:
            for width in model.space:
                model(batch, width=width)
            if model.gates:
                model.segment(0, batch, model.space.largest)
    values = {
        key: torch.cat([x.transpose(0, 1).flatten(1) for x in xs], 1) for key, xs in seen.items()
    }
    return {key: (x.double().mean(1), x.double().var(1)) for key, x in values.items()}


def private_statistics(model: DSNet) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        f"{name} at {width}": layer.statistics(width)
        for name, layer in model.named_modules()
        if isinstance(layer, SlimBatchNorm2d)
        for width in layer.widths
    }


def assert_statistics(model: DSNet, expected: dict[str, tuple[Tensor, Tensor]]) -> None:
    found = private_statistics(model)
    assert found.keys() == expected.keys()
    for key, pair in found.items():
        for ours, theirs in zip(pair, expected[key], strict=True):
            # Means may lie near zero, so the scale of each layer's is what they are relative to.
            error = (ours.double() - theirs).abs().max() / theirs.abs().max()
            assert error < 1e-6, key


def test_statistics_are_those_of_all_the_images(network: DSNet, images: Tensor) -> None:
    batches = [images[:10], images[10:14], images[14:]]
    expected = direct_statistics(network, batches)
    assert recalibrate(network, batches) == len(images)
    assert_statistics(network, expected)
    assert not network.training


def test_what_was_there_before_does_not_matter(network: DSNet, images: Tensor) -> None:
    other = copy.deepcopy(network)
    for layer in other.modules():
        if isinstance(layer, SlimBatchNorm2d):
            layer.running_mean.fill_(100.0)
            layer.running_var.fill_(100.0)
    for model in (network, other):
        recalibrate(model, [images])
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_parameters_stay_and_no_hook_is_left_behind(network: DSNet, images: Tensor) -> None:
    before = {name: value.clone() for name, value in network.named_parameters()}
    recalibrate(network, [images])
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]), name
        assert value.grad is None, name
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_the_shared_prefix_runs_once_for_each_batch(build: Build, images: Tensor) -> None:
    """Once slim for all sub-networks together and once wide, for the statistics of the largest."""
    model = build("mbnet with one gate")
    widths: list[int] = []

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        widths.append(output.shape[1])

    model.stem.register_forward_hook(count)
    recalibrate(model, [images, images])
    assert sorted(widths) == [8, 8, 12, 12]


def recalibrated(rank: int, folder: Path) -> None:
    """One of two workers: the model that is in the folder, by its share of the images."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = dsnet.load(folder / "model")
    assert recalibrate(model, load_file(folder / f"in{rank}").values()) == 24
    save_file(model.state_dict(), folder / f"out{rank}")
    dist.destroy_process_group()


def test_two_workers_agree_with_one_that_saw_all_the_images(
    build: Build, images: Tensor, tmp_path: Path
) -> None:
    """Three batches of different sizes over two gloo processes, each image weighing the same."""
    model = build("resnet with two gates").float()
    batches = [images[:12].float(), images[12:15].float(), images[15:].float()]
    dsnet.save(model, tmp_path / "model")
    for rank, share in enumerate((batches[:1], batches[1:])):
        save_file(
            {str(i): batch.contiguous() for i, batch in enumerate(share)}, tmp_path / f"in{rank}"
        )
    forked.run(recalibrated, tmp_path, processes=2)
    expected = direct_statistics(model, batches)
    for rank in range(2):
        model.load_state_dict(load_file(tmp_path / f"out{rank}"))
        assert_statistics(model, expected)
