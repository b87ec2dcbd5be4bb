"""A model that was made elsewhere is registered, and a chain goes on from it as from its own."""

from pathlib import Path

import pytest
import torch

import dsnet
from dsnet.io.files import SUMS, sha256
from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.runner.register_external import register
from pipeline.store import registry, tracking
from pipeline.store.version import GIVEN
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_chain_goes_on_from_a_supernet_that_was_given(
    result: ChainResult, workers: WorkerGroup, tmp_path: Path
) -> None:
    elsewhere = result.versions[1]
    directory = registry.pull(elsewhere.uri, tmp_path / "model")
    # As of the official code's checkpoints, whose slimming heads are never at zero.
    model = dsnet.load(directory)
    with torch.no_grad():
        for parameter in model.slimming_parameters():
            parameter.normal_()
    dsnet.save(model, directory)
    config = configured(name="received", seed=0)
    version = register(config, directory, as_supernet=True, workers=workers)
    assert (version.uri, version.stage) == ("models:/received-supernet/1", "supernet")
    assert version.tags[GIVEN] == sha256(directory / SUMS)
    assert version.tags["given_from"] == str(directory) and version.tags["parent"] == ""
    assert version.tags["fingerprint"] != result.versions[0].tags["fingerprint"]
    assert "holdout" not in version.tags  # nobody knows what it was trained on
    assert version.metrics["top1"] == elsewhere.metrics["top1"]  # on the same held-out images
    assert "given, not trained here" in (Path(version.source) / "README.md").read_text()
    kept = dsnet.load(registry.pull(version.uri, tmp_path / "kept"))
    assert not kept.gates_trained and kept.metadata == model.metadata
    for name, tensor in kept.state_dict().items():
        assert ".slimming." in name or torch.equal(tensor, model.state_dict()[name])

    runs = len(tracking.client().search_runs(["1"]))
    assert register(config, directory, as_supernet=True) == version
    assert len(tracking.client().search_runs(["1"])) == runs

    found = chain.run(config, workers=workers)
    assert [(each.uri, each.stage) for each in found.versions] == [
        (version.uri, "supernet"),
        ("models:/received-supernet/2", "calibrate"),
        ("models:/received/1", "gate"),
    ]
    assert found.versions[1].tags["parent"] == version.uri
    again = dsnet.load(registry.pull(found.version.uri, tmp_path / "gated"))
    first = kept.state_dict()["stem.conv.weight"]
    assert torch.equal(again.state_dict()["stem.conv.weight"], first)


def test_a_gated_network_is_measured_promoted_and_does_what_it_did(
    result: ChainResult, workers: WorkerGroup, tmp_path: Path
) -> None:
    directory = registry.pull(result.version.uri, tmp_path / "model")
    version = register(configured(name="handed"), directory, workers=workers)
    assert (version.uri, version.stage) == ("models:/handed/1", "gate")
    assert version.aliases == ("champion",) and version.tags["evaluated_on"] == "test"
    assert version.metrics["top1"] == result.version.metrics["top1"]
    assert version.metrics["average_madds"] == result.version.metrics["average_madds"]
    assert register(configured(name="handed"), directory).uri == version.uri
