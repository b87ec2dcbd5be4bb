"""dsnet import-official: an official checkpoint on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import dsnet
from dsnet.io.official import official_tensors
from dsnet.models.architecture import Architecture, Stage
from jobs import cli


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network of the family, in the official layout and wrapping."""
    torch.manual_seed(0)
    model = dsnet.DSNet(
        Architecture(
            "small",
            "mbnet",
            Stage((4, 8), stride=2),
            (
                Stage((8, 12)),
                Stage((8, 12), stride=2),
                Stage((8, 16), stride=2),
                Stage((12, 16, 20), stride=2, gated=True),
                Stage((16, 20, 24), stride=2),
            ),
            num_classes=3,
            routes=((0, 1),),
        )
    )
    torch.save({"state_dict": dict(official_state(model))}, tmp_path / "official.pth.tar")
    return tmp_path / "official.pth.tar"


def official_state(model: dsnet.DSNet) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in official_tensors(model):
        yield key, tensor.detach().clone()
        if key.endswith("running_mean"):
            yield key.replace("running_mean", "num_batches_tracked"), torch.tensor(1)


def test_it_writes_a_model_directory_and_says_what_is_in_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import-official", str(checkpoint), str(tmp_path / "model"), "--resolution", "32"]
    assert cli.run([*arguments, "--json"]) == 0
    model = dsnet.load(tmp_path / "model")
    counts = [model.madds(index, 32) for index in range(3)]
    assert json.loads(capsys.readouterr().out) == {
        "directory": str(tmp_path / "model"),
        "arch": "ds_mbnet_imported",
        "classes": 3,
        "resolution": 32,
        "largest": model.madds(model.space.largest, 32),
        "subnetworks": counts,
        "routes": [0, 1],
    }
    assert cli.run(arguments) == 0
    table = capsys.readouterr().out
    assert all(f"{count:,}" in table for count in counts)


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content["state_dict"]["classifier.bias"]
    torch.save(content, checkpoint)
    assert cli.run(["import-official", str(checkpoint), str(tmp_path / "model")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"dsnet: {checkpoint}: does not fit together: classifier.bias is missing\n"
    assert not (tmp_path / "model").exists()


def test_what_is_in_the_way_is_left_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    assert cli.run(["import-official", str(checkpoint), str(tmp_path / "folder")]) == 2
    assert "expected a model directory to replace or an empty folder" in capsys.readouterr().err
    assert (tmp_path / "folder" / "file").read_text() == "precious"
