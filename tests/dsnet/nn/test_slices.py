"""Sliced execution equals masked execution at full width."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsnet import DSNet, Width
from dsnet.models.create import architecture


class Masked:
    """The network at full width with the channels beyond `width` set to zero after every layer.

    Written anew on plain functions: it shares the names of the weights with the project, no code.
    """

    def __init__(self, model: DSNet, width: Width):
        self.state = model.state_dict()
        self.architecture = model.architecture
        self.width = width

    def norm(self, x: Tensor, name: str, widths: list[int], width: int) -> Tensor:
        """BatchNorm with the private statistics of `width`, then the mask."""
        before = sum(w for w in widths if w < width)
        missing = (0, widths[-1] - width)
        mean, var = (
            F.pad(self.state[f"{name}.{key}"][before : before + width], missing)
            for key in ("running_mean", "running_var")
        )
        x = F.batch_norm(
            x, mean, var, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps=1e-5
        )
        return x * (torch.arange(widths[-1]) < width)[:, None, None]

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def attend(self, x: Tensor, name: str) -> Tensor:
        weights = {
            key: self.state[f"{name}.{key}"]
            for key in ("reduce.weight", "reduce.bias", "expand.weight", "expand.bias")
        }
        reduced = F.relu(x.mean((2, 3)) @ weights["reduce.weight"].T + weights["reduce.bias"])
        attention = torch.sigmoid(reduced @ weights["expand.weight"].T + weights["expand.bias"])
        return x * attention[:, :, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        rows = (self.architecture.stem, *self.architecture.stages)
        mbnet = self.architecture.family == "mbnet"
        run = {
            "mbnet": self.separable,
            "resnet": self.bottleneck,
            "basic_resnet": self.basic,
        }[self.architecture.family]
        stem = self.norm(
            self.conv(x, "stem.conv", rows[0].stride),
            "stem.bn",
            list(rows[0].channels),
            self.width.channels[0],
        )
        x = F.silu(stem) if mbnet else F.relu(stem)
        if self.architecture.stem_pool:
            x = F.max_pool2d(x, 3, 2, 1)
        sides = [(list(row.channels), w) for row, w in zip(rows, self.width.channels, strict=True)]
        for stage, row in enumerate(rows[1:]):
            for block in range(row.blocks):
                before, after = sides[stage if block == 0 else stage + 1], sides[stage + 1]
                stride = row.stride if block == 0 else 1
                x = run(x, f"stages.{stage}.{block}", before, after, stride)
        return x.mean((2, 3)) @ self.state["classifier.weight"].T + self.state["classifier.bias"]

    def separable(
        self,
        x: Tensor,
        name: str,
        before: tuple[list[int], int],
        after: tuple[list[int], int],
        stride: int,
    ) -> Tensor:
        x = F.silu(self.norm(self.conv(x, f"{name}.depthwise", stride), f"{name}.bn1", *before))
        x = self.attend(x, f"{name}.gate")
        return F.silu(self.norm(self.conv(x, f"{name}.pointwise"), f"{name}.bn2", *after))

    def bottleneck(
        self,
        x: Tensor,
        name: str,
        before: tuple[list[int], int],
        after: tuple[list[int], int],
        stride: int,
    ) -> Tensor:
        hidden = ([c // 4 for c in after[0]], after[1] // 4)
        if f"{name}.gate.reduce.weight" in self.state:
            x = self.attend(x, f"{name}.gate")
        y = F.relu(self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1", *hidden))
        y = F.relu(self.norm(self.conv(y, f"{name}.conv2", stride), f"{name}.bn2", *hidden))
        y = self.norm(self.conv(y, f"{name}.conv3"), f"{name}.bn3", *after)
        return F.relu(y + self.shortcut(x, name, after, stride))

    def basic(
        self,
        x: Tensor,
        name: str,
        before: tuple[list[int], int],
        after: tuple[list[int], int],
        stride: int,
    ) -> Tensor:
        if f"{name}.gate.reduce.weight" in self.state:
            x = self.attend(x, f"{name}.gate")
        y = F.relu(self.norm(self.conv(x, f"{name}.conv1", stride), f"{name}.bn1", *after))
        y = self.norm(self.conv(y, f"{name}.conv2"), f"{name}.bn2", *after)
        return F.relu(y + self.shortcut(x, name, after, stride))

    def shortcut(self, x: Tensor, name: str, after: tuple[list[int], int], stride: int) -> Tensor:
        if f"{name}.projection.weight" not in self.state:
            return x
        return self.norm(
            self.conv(x, f"{name}.projection", stride), f"{name}.projection_bn", *after
        )


def test_every_sub_network_equals_the_full_network_with_its_other_channels_masked(
    network: DSNet, images: Tensor
) -> None:
    for width in (*network.space, network.space.largest):
        sliced = network(images, width=width)
        assert sliced.std() > 0.01  # the comparison is of something
        torch.testing.assert_close(sliced, Masked(network, width)(images), rtol=0, atol=1e-5)


def test_a_width_outside_the_space_slices_like_any_other(network: DSNet, images: Tensor) -> None:
    """The wide prefix before the slimmest rest, and so on: any entry of each list."""
    lists = [row.channels for row in (network.architecture.stem, *network.architecture.stages)]
    zigzag = Width(tuple(channels[-(i % 2)] for i, channels in enumerate(lists)))
    sliced = network(images, width=zigzag)
    torch.testing.assert_close(sliced, Masked(network, zigzag)(images), rtol=0, atol=1e-5)


def test_masking_by_a_mixture_of_widths_equals_slicing(gated: DSNet, images: Tensor) -> None:
    """The training path of stage II with each image's one-hot choice, against each image sliced."""
    space = gated.space
    rows = torch.randint(0, len(space), (len(images),))
    x, _ = gated.segment(0, images, space[0])
    for gate, options in enumerate(space.options):
        entries = torch.tensor([space.paths[row][gate] for row in rows.tolist()])
        mixture = F.one_hot(entries, options).double()
        x, _ = gated.segment(gate + 1, x, space.largest, mixture)
    masked = gated.answer(x, images, space.largest)
    for image, row, logits in zip(images, rows.tolist(), masked, strict=True):
        torch.testing.assert_close(logits, gated(image[None], width=row)[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("gates", [(0,), (1,), (3,), (0, 1), (1, 2, 3), (0, 1, 2, 3)])
def test_a_residual_network_may_have_a_gate_in_any_stage(gates: tuple[int, ...]) -> None:
    table = architecture("ds_resnet50")
    narrow = replace(
        table,
        stem=replace(table.stem, channels=(2, 4, 6, 8)),
        stages=tuple(
            replace(stage, channels=tuple(c // 16 for c in stage.channels), blocks=2)
            for stage in table.stages
        ),
        num_classes=7,
    )
    model = DSNet(narrow.with_gates(gates)).double().eval()
    assert len(model.gates) == len(gates)
    assert len(model.space) == 4 ** len(gates)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for index in (0, len(model.space) // 2, len(model.space) - 1):
        expected = Masked(model, model.space[index])(images)
        torch.testing.assert_close(model(images, width=index), expected, rtol=0, atol=1e-5)
