"""Official checkpoints: every key finds its place, and anything else in the file is refused."""

import argparse
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import dsnet
from dsnet import InputError
from dsnet.io.official import from_state, import_official, infer, official_tensors

State = dict[str, Tensor]


class Row(NamedTuple):
    """A row of the official configuration."""

    channels: list[int]
    blocks: int = 1
    routes: int = 0
    kernel: int = 3


SMALL = [
    Row([4, 5]),
    Row([6, 10]),
    Row([8, 12], blocks=2),
    Row([8, 16], blocks=2, kernel=5),
    Row([12, 16, 20], blocks=3, routes=2),
    Row([16, 20, 24]),
]
FULL = [
    Row([16, 24]),
    Row([32, 88]),
    Row([48, 168], blocks=2),
    Row([96, 264], blocks=2),
    Row([*range(224, 641, 32)], blocks=6, routes=4),
    Row([*range(736, 1153, 32)], blocks=2),
]


def official_shapes(rows: list[Row], classes: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as the official code's modules give them, written down from its layout."""
    shapes: dict[str, tuple[int, ...]] = {}

    def batchnorm(name: str, channels: list[int]) -> None:
        for index, count in enumerate(channels):
            if count == channels[-1]:  # the affine pair, shared by all
                shapes[f"{name}.aux_bn.{index}.weight"] = (count,)
                shapes[f"{name}.aux_bn.{index}.bias"] = (count,)
            shapes[f"{name}.aux_bn.{index}.running_mean"] = (count,)
            shapes[f"{name}.aux_bn.{index}.running_var"] = (count,)
            shapes[f"{name}.aux_bn.{index}.num_batches_tracked"] = ()

    shapes["conv_stem.weight"] = (rows[0].channels[-1], 3, rows[0].kernel, rows[0].kernel)
    batchnorm("bn1", rows[0].channels)
    before = rows[0].channels
    for stage, row in enumerate(rows[1:]):
        for block in range(row.blocks):
            name = f"blocks.{stage}." + (f"residual_blocks.{block - 1}" if block else "first_block")
            wide, out = before[-1], row.channels[-1]
            reduced = {5: 2, 6: 2, 8: 2, 10: 3}.get(wide, wide // 4)  # the official rounding
            shapes[f"{name}.conv_dw.weight"] = (wide, 1, row.kernel, row.kernel)
            batchnorm(f"{name}.bn1", before)
            shapes[f"{name}.gate.conv_reduce.weight"] = (reduced, wide, 1, 1)
            shapes[f"{name}.gate.conv_reduce.bias"] = (reduced,)
            shapes[f"{name}.gate.conv_expand.weight"] = (wide, reduced, 1, 1)
            shapes[f"{name}.gate.conv_expand.bias"] = (wide,)
            if row.routes and block == 0:
                shapes[f"{name}.gate.gate.0.weight"] = (row.routes, reduced, 1, 1)
            shapes[f"{name}.conv_pw.weight"] = (out, wide, 1, 1)
            batchnorm(f"{name}.bn2", row.channels)
            before = row.channels
    shapes["classifier.weight"] = (classes, before[-1])
    shapes["classifier.bias"] = (classes,)
    return shapes


def random_state(rows: list[Row], classes: int) -> State:
    return {
        key: torch.tensor(17) if key.endswith("num_batches_tracked") else 0.1 + torch.rand(shape)
        for key, shape in official_shapes(rows, classes).items()
    }


@pytest.fixture
def state() -> State:
    return random_state(SMALL, classes=7)


Save = Callable[[Any], Path]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "checkpoint.pth.tar")
        return tmp_path / "checkpoint.pth.tar"

    return write


# What is read -------------------------------------------------------------------------------------


def test_a_full_size_state_dict_leaves_no_key_over_on_either_side(
    saved: Save, tmp_path: Path
) -> None:
    state = random_state(FULL, classes=1000)
    assert len(state) == 838
    model = import_official(saved({"state_dict": state}), tmp_path / "model")
    assert model.architecture.name == "ds_mbnet"
    table = dsnet.create_model("ds_mbnet", routes=range(4), dropout=0.0)
    assert model.architecture == table.architecture
    taken = dict(official_tensors(model))
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    assert set(taken) | counters == set(state)
    for key, tensor in taken.items():
        assert torch.equal(tensor, state[key]), key
    # And on our side nothing is left as it was initialised.
    places = {(t.data_ptr(), t.numel()) for t in taken.values()}
    assert len(places) == len(taken)
    assert sum(n for _, n in places) == sum(t.numel() for t in model.state_dict().values())


def test_widths_blocks_kernels_routes_and_classes_are_read_off_the_shapes(
    state: State, saved: Save, tmp_path: Path
) -> None:
    found = import_official(saved(state), tmp_path / "model", resolution=32).architecture
    rows = (found.stem, *found.stages)
    assert [list(row.channels) for row in rows] == [row.channels for row in SMALL]
    assert [row.blocks for row in rows] == [row.blocks for row in SMALL]
    assert [row.kernel for row in rows] == [row.kernel for row in SMALL]
    assert [row.stride for row in rows] == [2, 1, 2, 2, 2, 2]
    assert found.gates == (3,)
    assert found.routes == ((0, 1),)
    assert (found.num_classes, found.resolution) == (7, 32)


def test_each_width_gets_its_own_statistics_and_all_the_same_weights(
    state: State, saved: Save, tmp_path: Path
) -> None:
    model = import_official(saved(state), tmp_path / "model")
    block = model.block(3, 1)
    norm = block.get_submodule("bn1")
    for index, width in enumerate((12, 16, 20)):
        mean, var = norm.statistics(width)  # type: ignore[operator]
        prefix = f"blocks.3.residual_blocks.0.bn1.aux_bn.{index}"
        assert torch.equal(mean, state[f"{prefix}.running_mean"])
        assert torch.equal(var, state[f"{prefix}.running_var"])
    shared = state["blocks.3.residual_blocks.0.bn1.aux_bn.2.weight"]
    assert torch.equal(norm.get_parameter("weight"), shared)


def test_the_model_directory_holds_what_was_imported(
    state: State, saved: Save, tmp_path: Path
) -> None:
    model = import_official(saved(state), tmp_path / "model", resolution=32)
    loaded = dsnet.load(tmp_path / "model")
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(loaded(images), model(images))
    # ImageNet's mean and deviation, and its usual crop of 224 pixels out of 256.
    assert loaded.metadata == dsnet.Metadata(resolution=32, crop=224 / 256)


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "data parallel": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "moving average": lambda state: {
        "state_dict": {k: torch.zeros_like(v) for k, v in state.items()},
        "state_dict_ema": {f"module.{k}": v for k, v in state.items()},
    },
    "no moving average kept": lambda state: {"state_dict": state, "state_dict_ema": None},
    "as the official trainer writes it": lambda state: {
        "epoch": 149,
        "arch": "DSNet",
        "state_dict": {k: torch.zeros_like(v) for k, v in state.items()},
        "state_dict_ema": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        "args": argparse.Namespace(lr=0.08, sched="cosine", decay=[1, 2]),
        "version": 2,
        "metric": 70.1,
    },
    "in double precision": lambda state: {k: v.double() for k, v in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_weights_are_found_in_every_wrapping(
    state: State, saved: Save, tmp_path: Path, wrapping: str
) -> None:
    model = import_official(saved(WRAPPINGS[wrapping](state)), tmp_path / "model")
    for key, tensor in official_tensors(model):
        assert torch.equal(tensor, state[key].to(tensor.dtype)), key


def test_a_safetensors_file_is_read_too(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "official.safetensors")
    model = import_official(tmp_path / "official.safetensors", tmp_path / "model")
    assert torch.equal(model.classifier.weight, state["classifier.weight"])


def test_the_first_sub_networks_are_routable_unless_told_otherwise(
    state: State, saved: Save, tmp_path: Path
) -> None:
    checkpoint = saved(state)
    assert import_official(checkpoint, tmp_path / "model").space.routes == (0, 1)
    assert import_official(checkpoint, tmp_path / "model", routes=[0, 2]).space.routes == (0, 2)
    with pytest.raises(InputError, match=r"gate\.gate\.0\.weight should be 3x4x1x1, is 2x4x1x1"):
        import_official(checkpoint, tmp_path / "model", routes=[0, 1, 2])


# What is refused ----------------------------------------------------------------------------------


def test_all_that_does_not_fit_is_named_at_once(state: State, saved: Save, tmp_path: Path) -> None:
    del state["classifier.bias"]
    del state["bn1.aux_bn.0.num_batches_tracked"]
    state["blocks.3.first_block.bn2.aux_bn.1.running_mean"] = torch.zeros(7)
    state["blocks.2.first_block.conv_dw.weight"] = torch.zeros(12, 1, 5, 3)
    state["blocks.0.first_block.conv_pw.weight"] = torch.zeros(10, 5, 1, 1, dtype=torch.int64)
    state["conv_stem.weight"] = state["conv_stem.weight"].to(torch.float8_e4m3fn)
    state["blocks.0.first_block.skip.weight"] = torch.zeros(1)
    with pytest.raises(InputError) as refusal:
        import_official(saved(state), tmp_path / "model")
    message = str(refusal.value)
    assert "\n" not in message
    for part in (
        "checkpoint.pth.tar",
        "classifier.bias is missing",
        "bn1.aux_bn.0.num_batches_tracked is missing",
        "blocks.3.first_block.bn2.aux_bn.1.running_mean should be 16, is 7",
        "blocks.2.first_block.conv_dw.weight should be 12x1x5x5, is 12x1x5x3",
        "first_block.conv_pw.weight should be floating point of 16 bits or more, is torch.int64",
        "conv_stem.weight should be floating point of 16 bits or more, is torch.float8_e4m3fn",
        "blocks.0.first_block.skip.weight is left over",
    ):
        assert part in message
    assert message.count(";") == 6  # and nothing else
    assert not (tmp_path / "model").exists()


def test_no_key_may_be_missing(state: State) -> None:
    kinds = {re.sub(r"\d+", "N", key): key for key in state}  # a key of each kind
    for key in kinds.values():
        rest = {other: tensor for other, tensor in state.items() if other != key}
        slimming = key.endswith("gate.gate.0.weight")
        named = "expected a slimming head" if slimming else f"{re.escape(key)} is missing"
        with pytest.raises(InputError, match=named):
            from_state(infer(rest), rest)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_the_file_is_refused_by_name_and_not_run(
    state: State, saved: Save, tmp_path: Path
) -> None:
    checkpoint = saved({"state_dict": state, "hook": Trap(tmp_path / "trap")})
    with pytest.raises(InputError, match=r"found \w+\.mkdir; nothing was run"):
        import_official(checkpoint, tmp_path / "model")
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "model").exists()


def test_objects_hidden_in_the_trainers_arguments_are_refused_too(
    state: State, saved: Save, tmp_path: Path
) -> None:
    arguments = argparse.Namespace(lr=Trap(tmp_path / "trap"))
    with pytest.raises(InputError, match="nothing was run"):
        import_official(saved({"state_dict": state, "args": arguments}), tmp_path / "model")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint", "cannot be read"),
        (b"PK\x03\x04 not a zip either", "cannot be read"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    for name in ("file.pth.tar", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: expected a"):
            import_official(tmp_path / name, tmp_path / "model")


def test_a_checkpoint_cut_short_is_refused(state: State, saved: Save, tmp_path: Path) -> None:
    checkpoint = saved(state)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be read"):
        import_official(checkpoint, tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "expected a state dict, found a list"),
        ({"lr": 0.1, "epoch": 3}, "found others: lr, epoch"),
        ({"fc.weight": torch.zeros(3)}, r"the keys of an official DS-MBNet .* found fc\.weight"),
        ({}, "found none"),
    ],
)
def test_another_networks_checkpoint_is_refused(
    saved: Save, tmp_path: Path, content: object, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        import_official(saved(content), tmp_path / "model")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth: expected a checkpoint file, found none"):
        import_official(tmp_path / "nowhere.pth", tmp_path / "model")


def test_other_numbers_of_stages_are_refused(saved: Save, tmp_path: Path) -> None:
    """The strides of the family are known for five."""
    with pytest.raises(InputError, match=r"expected stages 0 to 4, found \[0, 1, 2, 3\]"):
        import_official(saved(random_state(SMALL[:5], classes=7)), tmp_path / "model")
