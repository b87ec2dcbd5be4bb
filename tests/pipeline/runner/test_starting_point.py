"""What a supernet starts from is found, checked and kept before anything is trained."""

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision

import dsnet
from dsnet import InputError, create_model
from dsnet.training import start_from
from pipeline.config import Config, config_from_dict, storage_dir
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.estimate.reuse import planned
from pipeline.runner.starting_point import starting_point
from pipeline.stages.network import new_network
from pipeline.store import registry
from tests.embedded_store import embedded_store


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with embedded_store(tmp_path_factory.mktemp("started")):
        yield ingest(configured())


def configured(**supernet: object) -> Config:
    return config_from_dict({"name": "started", "supernet": supernet})


def model_directory(folder: Path, seed: int = 0, arch: str = "ds_mbnet_digits") -> Path:
    torch.manual_seed(seed)
    return dsnet.save(create_model(arch, 7), folder)


def test_a_directory_is_known_by_what_is_read_of_it_and_kept_in_the_storage(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = model_directory(tmp_path / "model")
    config = configured(**{"from": str(directory)})
    with caplog.at_level(logging.INFO):
        start = starting_point(config, dataset)
    assert start is not None and start.directory.is_relative_to(storage_dir(config))
    assert f"the supernet starts from {directory}: " in caplog.text
    assert "2 anew (classifier.weight, classifier.bias)" in caplog.text
    # Elsewhere the same; with other weights another, at the same place.
    moved = shutil.copytree(directory, tmp_path / "moved")
    assert starting_point(configured(**{"from": str(moved)}), dataset) == start
    kept = (start.directory / "weights.safetensors").read_bytes()
    model_directory(tmp_path / "model", seed=1)
    other = starting_point(config, dataset)
    assert other is not None and other.identity != start.identity
    assert (start.directory / "weights.safetensors").read_bytes() == kept


def test_a_registered_version_is_known_by_its_fingerprint(dataset: Dataset, tmp_path: Path) -> None:
    version = registry.register(
        "seven-supernet",
        model_directory(tmp_path / "model"),
        stage="supernet",
        run_id=None,
        tags={"fingerprint": "seven", "parent": "", "dataset_digest": "d", "code_version": "c"},
        metrics={"top1": 0.1, "average_madds": 1.0},
        aliases=["best"],
    )
    for uri in (version.uri, "models:/seven-supernet@best"):
        start = starting_point(configured(**{"from": uri}), dataset)
        assert start is not None and start.identity == "seven"
        assert dsnet.load(start.directory).architecture.num_classes == 7


def test_without_one_there_is_none(dataset: Dataset) -> None:
    assert starting_point(configured(), dataset) is None


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere", "supernet.from nowhere: expected models:/NAME/3, .* directory, found nothing"),
        ("resnet50.pth", r"supernet.from .*resnet50.pth: .* found a file; .* docs/fine_tuning\.md"),
        ("models:/none-supernet/1", "supernet.from models:/none-supernet/1: "),
        ("empty", "supernet.from .*empty: .* is not a model directory"),
        ("resnet", r"supernet.from .*resnet: expected .* they have nothing in common"),
    ],
)
def test_what_cannot_be_started_from_is_refused(
    dataset: Dataset, tmp_path: Path, named: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "resnet50.pth").touch()
    model_directory(tmp_path / "resnet", arch="ds_resnet_cifar")
    if (tmp_path / named).exists():
        named = str(tmp_path / named)
    config = configured(**{"from": named})
    with pytest.raises(InputError, match=message):
        starting_point(config, dataset)
    if not named.endswith("/resnet"):  # a whole one, which is another network's
        with pytest.raises(InputError, match=message):  # dsnet plan, also where nothing is ingested
            planned(config, None, by_table=True)


def test_the_docs_way_from_an_ordinary_network_keeps_what_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = torchvision.models.resnet50(num_classes=3)
    monkeypatch.chdir(tmp_path)
    torch.save(ordinary.state_dict(), "resnet50.pth")
    page = (Path(__file__).parents[3] / "docs" / "fine_tuning.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code.replace("num_classes=1000", "num_classes=3"), {})
    ours, images = dsnet.load("resnet50").eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images, width=3), ordinary.eval()(images))
    config = config_from_dict({"model": {"arch": "ds_resnet50"}})
    begun = start_from(new_network(config, classes=3), ours)
    assert not begun.part and all(".gate." in name for name in begun.anew[:4])
    assert begun.anew[4:] == ()


def test_a_part_that_the_network_does_not_have_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    named = str(model_directory(tmp_path / "model"))
    with pytest.raises(InputError, match=r"supernet\.freeze: .*found 'stages\.9'; the nearest are"):
        starting_point(configured(**{"from": named, "freeze": ["stages.9"]}), dataset)
