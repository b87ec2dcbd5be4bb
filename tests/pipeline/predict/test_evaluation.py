"""dsnet evaluate: a model on other data, against its predictor's answers for the same pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dsnet
from dsnet import Metadata, Predictor
from jobs import cli
from pipeline.data.sources import open_source

CONFIG = str(Path(cli.__file__).parent / "configs" / "digits.yaml")
NAMES = tuple("9876543210")  # in another order than the data has them


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose gate picks several widths."""
    torch.manual_seed(3)
    metadata = Metadata(resolution=8, classes=NAMES)
    made = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    with torch.no_grad():
        made.slimming_parameters()[0].normal_(std=3)
    return dsnet.save(made, tmp_path_factory.mktemp("evaluate") / "model")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_every_row_is_what_the_predictor_answers(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.svg"
    assert cli.run(["evaluate", str(model), "--config", CONFIG, "--plot", str(plot), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "calibration error" in plot.read_text()
    source = open_source("digits", "test")
    samples = [source[index] for index in range(len(source))]
    images = torch.from_numpy(np.stack([np.asarray(sample.image) for sample in samples]))
    labels = torch.tensor([NAMES.index(source.classes[sample.label]) for sample in samples])
    network = dsnet.load(model)
    assert found["images"] == len(samples)
    assert [row["name"] for row in found["rows"]] == [
        *(f"width {width}" for width in range(len(network.space))),
        "dynamic",
    ]
    for width, row in enumerate(found["rows"]):
        fixed = None if row["name"] == "dynamic" else width
        logits, _ = Predictor(network, width=fixed)(images)
        right = logits.argmax(1) == labels
        assert row["measures"]["top1"] == pytest.approx(float(right.double().mean()), abs=0.003)
        by_class = {name: float(right[labels == k].double().mean()) for k, name in enumerate(NAMES)}
        assert row["accuracy_by_class"] == pytest.approx(by_class, abs=0.03)
        assert np.sum(row["confusion"]) == len(samples)
        assert np.trace(row["confusion"]) == round(row["measures"]["top1"] * len(samples))


def test_classes_that_the_model_does_not_have_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = Metadata(resolution=8, classes=(*"01234567", "eight", "nine"))
    other = dsnet.save(dsnet.create_model("ds_mbnet_digits", metadata=metadata), tmp_path / "other")
    assert cli.run(["evaluate", str(other), "--config", CONFIG]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    line = said.err.splitlines()[-1]
    assert line.startswith("dsnet: data.source digits: expected classes of the model")
    assert line.endswith("found '8', '9'")
