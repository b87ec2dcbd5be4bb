"""Model directories with sound checksums and unsound tensors: each refused in one line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import dsnet
from dsnet import Metadata
from dsnet.io.files import write_sums
from dsnet.nn.gate import make_head
from dsnet.routing.tuned import TunedGate, put_heads
from dsnet.runtime.exported import Exported
from tests.attacks import bounded

OTHERS = [
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float16,
    torch.float64,
]
HEAD = "stages.3.0.gate.slimming.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a gate that was trained and one that is tuned."""
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, classes=tuple("abc"), prices=((0.0, 2e5), (1.0, 1e5)))
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    head = make_head(model.gates[0].features, 4)
    torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]
    put_heads(model, (head,))
    gates = [TunedGate((head,), 1.5e5, 0.5, metadata.prices)]
    return dsnet.save(model, tmp_path_factory.mktemp("weights") / "model", gates)


def _changed(whole: Path, folder: Path, file: str, name: str, dtype: torch.dtype) -> Path:
    """A copy whose tensor `name` is of another dtype, with checksums that fit."""
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / file)
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, folder / file)
    write_sums(folder)
    return folder


def _load(directory: Path) -> None:
    dsnet.load(directory)


def _load_at_a_budget(directory: Path) -> None:
    dsnet.load(directory, budget=0.9)


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_weights_of_another_dtype_than_the_descriptions_are_refused_by_name(
    whole: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    for number, name in enumerate(("stem.conv.weight", "stem.bn.running_var", HEAD)):
        changed = _changed(whole, tmp_path / str(number), "weights.safetensors", name, dtype)
        refusal = bounded.call(_load, changed).refusal
        assert "weights.safetensors" in refusal and name in refusal, refusal
        assert "should be float32" in refusal, refusal
    changed = _changed(whole, tmp_path / "gates", "gates.safetensors", "0.0.weight", dtype)
    refusal = bounded.call(_load_at_a_budget, changed).refusal
    assert "gates.safetensors" in refusal and "0.0.weight" in refusal, refusal
    assert "should be float32" in refusal, refusal


def test_the_command_line_refuses_the_same(whole: Path, tmp_path: Path) -> None:
    changed = _changed(whole, tmp_path / "int", "weights.safetensors", HEAD, torch.int64)
    ended = bounded.command("export", changed, tmp_path / "out.onnx")
    assert f"{HEAD} should be float32, is int64" in ended.refusal


def _answer_at_a_budget(directory: Path) -> None:
    import numpy as np

    Exported(directory)(np.zeros((1, 8, 8, 3), np.uint8), 0.9)


def test_a_runtime_without_torch_refuses_the_same(whole: Path, tmp_path: Path) -> None:
    from dsnet.inference.export import export

    changed = _changed(whole, tmp_path / "int", "gates.safetensors", "0.0.weight", torch.int64)
    export(dsnet.load(whole), changed / "model.onnx")
    write_sums(changed)
    assert (
        "'0.0.weight' should be float32, is I64"
        in bounded.call(_answer_at_a_budget, changed).refusal
    )


def test_what_could_not_be_loaded_again_is_not_saved(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(dsnet.InputError, match=r"expected float32, found float16"):
        dsnet.save(dsnet.load(whole).half(), tmp_path / "half")
    assert not (tmp_path / "half").exists()
