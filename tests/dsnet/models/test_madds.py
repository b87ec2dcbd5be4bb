"""Multiply-adds: the published numbers, and an independent count of every network."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import dsnet
from dsnet import DSNet, InputError, Width
from dsnet.models.registry import ARCHITECTURES
from dsnet.nn.gate import Gate

# What the official code prints for DS-MBNet at 224 pixels with 1000 classes.
OFFICIAL = [
    132890144,
    152917184,
    175151968,
    199594496,
    226244768,
    255102784,
    286168544,
    319442048,
    354923296,
    392612288,
    432509024,
    474613504,
    518925728,
    565445696,
]
OFFICIAL_LARGEST = 819883136


def shapes_only(name: str, **options: object) -> DSNet:
    with torch.device("meta"):
        return dsnet.create_model(name, **options).eval()  # type: ignore[arg-type]


def test_ds_mbnet_costs_what_the_official_code_says() -> None:
    model = shapes_only("ds_mbnet")
    assert [model.madds(width=i, resolution=224) for i in range(len(model.space))] == OFFICIAL
    assert model.madds(width=model.space.largest, resolution=224) == OFFICIAL_LARGEST


@pytest.mark.parametrize(("index", "published"), list(enumerate(["278M", "1.1G", "2.3G", "4.1G"])))
def test_ds_resnet50_without_gates_costs_what_slimmable_resnet50_does(
    index: int, published: str
) -> None:
    madds = shapes_only("ds_resnet50").madds(width=index, resolution=224)
    rounded = f"{madds / 1e6:.0f}M" if published.endswith("M") else f"{madds / 1e9:.1f}G"
    assert rounded == published


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_width_agrees_with_an_independent_count(name: str) -> None:
    model = shapes_only(name)
    for width in dict.fromkeys([*model.space, model.space.largest]):
        assert model.madds(width) == independent_count(model, width, model.metadata.resolution)


@pytest.mark.parametrize("gates", [(1, 2), (0, 3)])
def test_gated_stages_agree_with_an_independent_count(gates: tuple[int, ...]) -> None:
    model = shapes_only("ds_resnet50", gates=gates)
    for index in (0, 6, 9, 15):
        assert model.madds(index, 64) == independent_count(model, model.space[index], 64)


@pytest.mark.parametrize(
    "name", ["ds_mbnet", "ds_resnet50", "ds_resnet_cifar", "ds_resnet12_cifar"]
)
@pytest.mark.parametrize("resolution", [37, 38, 39])
def test_sizes_that_a_stride_does_not_divide_are_counted_too(name: str, resolution: int) -> None:
    model = shapes_only(name)
    assert model.madds(1, resolution) == independent_count(model, model.space[1], resolution)


def independent_count(model: DSNet, width: Width, resolution: int) -> int:
    """Multiply-adds by torch's FlopCounterMode, and the terms that it leaves out.

    It counts convolutions and matrix products, two operations to each multiply-add. It leaves out
    pooling: the gates' averages, the last average and the stem's maximum, each of which counts for
    as many as its input has values; a gate without attention averages squares too. Those are read
    off the tensors that pass.
    """
    pooled = 0

    def gate_input(gate: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal pooled
        pooled += inputs[0].numel() * (2 if gate.reduce is None else 1)

    def pooled_output(_: nn.Module, __: object, output: torch.Tensor) -> None:
        nonlocal pooled
        pooled += output.numel()

    gates = [module for module in model.modules() if isinstance(module, Gate)]
    hooks = [gate.register_forward_pre_hook(gate_input) for gate in gates]
    *_, last_block = list(model.stages.children())[-1].children()
    if model.task.labelled:
        hooks.append(last_block.register_forward_hook(pooled_output))
    if model.architecture.stem_pool:
        hooks.append(model.stem.get_submodule("bn").register_forward_hook(pooled_output))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, resolution, resolution, device="meta"), width=width)
    for hook in hooks:
        hook.remove()
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2 + pooled


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_wider_choice_always_costs_more(name: str) -> None:
    model = shapes_only(name)
    space = model.space
    for path in space.paths:
        for gate in range(len(path)):
            wider = (*path[:gate], path[gate] + 1, *path[gate + 1 :])
            if wider[gate] < space.options[gate]:
                assert model.madds(space.index_of(wider)) > model.madds(space.index_of(path))
    assert model.madds(space.largest) >= model.madds(len(space) - 1)


def test_the_cifar_networks_are_small_and_their_widths_well_apart() -> None:
    mbnet, resnet = shapes_only("ds_mbnet_cifar"), shapes_only("ds_resnet_cifar")
    assert mbnet.madds(0) < 4e6
    assert len(mbnet.space.routes) >= 4
    assert mbnet.madds(len(mbnet.space) - 1) > 3 * mbnet.madds(0)
    assert len(resnet.gates) == 2
    assert resnet.madds(len(resnet.space) - 1) > 3 * resnet.madds(0)


def test_the_wide_space_reaches_ratio_1_25_in_steps_of_0_05() -> None:
    stage3 = shapes_only("ds_mbnet_wide").architecture.stages[3].channels
    assert [round(c / 640, 10) for c in stage3] == [round(0.35 + 0.05 * i, 10) for i in range(19)]


def test_the_resolution_defaults_to_that_of_the_models_images() -> None:
    model = shapes_only("ds_mbnet")
    assert model.madds(0) == OFFICIAL[0] != model.madds(0, resolution=160)


def test_a_resolution_below_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match="resolution must be at least 1 pixel, found 0"):
        shapes_only("ds_mbnet").madds(0, resolution=0)


def test_the_costs_that_a_price_weighs_are_fractions_of_the_widest_route() -> None:
    model = shapes_only("ds_mbnet", routes=[1, 5])
    (costs,) = model.gate_costs(torch.device("cpu"))
    torch.testing.assert_close(costs, torch.tensor([OFFICIAL[1] / OFFICIAL[5], 1.0]))
