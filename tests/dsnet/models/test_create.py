"""create_model: the one door, and what it says to those who knock at the wrong one."""

import pytest
import torch

import dsnet
from dsnet import DSNet, InputError, Metadata
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.create import of_one_width
from dsnet.models.registry import ARCHITECTURES
from dsnet.training import start_from


@pytest.mark.parametrize(
    "name", ["ds_mbnet_digits", "ds_mbnet_cifar", "ds_resnet_cifar", "ds_resnet12_cifar"]
)
def test_a_new_network_tells_images_apart_at_every_width(name: str) -> None:
    """Freshly initialised, signals neither vanish nor explode on their way."""
    model = dsnet.create_model(name, num_classes=7).train()
    size = model.metadata.resolution
    images = torch.randn(16, 3, size, size)
    for width in {model.space[0], model.space[-1], model.space.largest}:
        features: list[torch.Tensor] = []
        model.classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))  # noqa: B023
        logits = model(images, width=width)
        assert logits.shape == (16, 7)
        assert 0.02 < features[-1].std(0).mean() < 2


def test_metadata_starts_with_the_resolution_the_table_is_made_for() -> None:
    assert dsnet.create_model("ds_mbnet_digits").metadata == Metadata(resolution=8)


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="'ds_mbnett' is not known, did you mean 'ds_mbnet'"):
        dsnet.create_model("ds_mbnett")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_classes": 0}, "num_classes must be a whole number of 1 or more, found 0"),
        ({"num_classes": 2.5}, "num_classes must be a whole number of 1 or more, found 2.5"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), found 1.0"),
        ({"gates": [7]}, "gates must be rising indices of stages, 0 to 4, found"),
        ({"gates": []}, "channel lists of one length"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        dsnet.create_model("ds_mbnet_digits", **options)  # type: ignore[arg-type]


def test_a_network_can_be_described_in_a_few_lines() -> None:
    """Adding an architecture is a table: rows of channels, blocks and strides."""
    table = Architecture("mine", "resnet", Stage((8,)), (Stage((16, 32), blocks=2, gated=True),))
    model = dsnet.DSNet(table).eval()
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 1000)


def test_a_sub_network_by_itself_is_what_it_is_within_the_supernet(
    network: DSNet, images: torch.Tensor
) -> None:
    def features(model: DSNet) -> list[int]:
        return [gate.slimming.in_features for gate in model.gates if gate.slimming is not None]

    for index, width in enumerate(network.space):
        alone = DSNet(of_one_width(network.architecture, index), network.metadata).double().eval()
        assert [width] == list(alone.space) == [alone.space.largest]
        assert not start_from(alone, network).anew
        if features(alone) != features(network):
            continue  # attention over fewer channels
        others = sum(
            count * (len(choice) - 1)
            for count, choice in zip(features(network), network.space.choices, strict=True)
        )
        assert alone.madds(0) == network.madds(index) - others  # its gates have a route each
        torch.testing.assert_close(alone(images, width=0), network(images, width=index))
    with pytest.raises(InputError, match=f"width must be 0 to {index}"):
        of_one_width(network.architecture, index + 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"family": "vgg"},
            r"family must be one of \['basic_resnet', 'denoiser', 'mbnet', 'resnet'\], found",
        ),
        ({"stem_pool": True}, "stem_pool must be false for DS-MBNet"),
        ({"colour": "blue"}, r"unknown fields \['colour'\]"),
        ({"stages": []}, "at least one stage"),
        ({"stages": [{"channels": [8, 8]}]}, r"rise strictly, found \[8, 8\]"),
        ({"stages": [{"channels": [8.5]}]}, "whole numbers? "),
        ({"stages": [{"channels": []}]}, "rise strictly"),
        ({"stages": [{"channels": [8], "kernel": 2}]}, "kernel must be odd, found 2"),
        ({"stages": [{"channels": [8], "stride": 0}]}, "stride must be a whole number"),
        ({"stages": [{"channels": 8}]}, "not readable"),
        ({"stages": [{"chanels": [8]}]}, "not readable"),
        ({"stages": 3}, "not readable"),
        ({"num_classes": "ten"}, "whole number"),
        ({"dropout": "much"}, "not readable"),
        ({"routes": 4}, "not readable"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    change: dict[str, object], problem: str
) -> None:
    data = {**ARCHITECTURES["ds_mbnet_digits"].to_dict(), **change}
    with pytest.raises(InputError, match=problem):
        dsnet.DSNet(Architecture.from_dict(data))


def test_bottlenecks_come_in_multiples_of_four() -> None:
    table = Architecture("odd", "resnet", Stage((8, 12)), (Stage((16, 30)),))
    with pytest.raises(InputError, match=r"multiples of 4, found \[16, 30\]"):
        dsnet.DSNet(table)
