"""Test pictures that a model was trained on are counted, through its ancestors, in use."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dsnet
from dsnet import Metadata
from jobs import cli
from pipeline.config import config_from_dict
from pipeline.data.dataset import Dataset, ingest
from pipeline.runner.seen import record, warn_of_seen
from pipeline.store import registry, tracking
from pipeline.store.registry import Version
from tests.embedded_store import embedded_store
from tests.pipeline.data.ingest.test_overlap import config, written

DIGITS = Path(cli.__file__).parent / "configs" / "digits.yaml"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with embedded_store(folder):
        tracking.configure()
        metadata = Metadata(resolution=8, classes=tuple("0123456789"))
        dsnet.save(dsnet.create_model("ds_mbnet_digits", metadata=metadata), folder / "model")
        yield folder


def trained(home: Path, name: str, dataset: Dataset) -> Version:
    """As a chain registers what it trained on the data."""
    with tracking.stage_run(None, "supernet") as run:
        tags = {"fingerprint": "f", "parent": "", "code_version": "c"}
        tags |= {"dataset_digest": dataset.digest, **record(dataset.train, run)}
        return registered(home, name, tags, run.id)


def registered(home: Path, name: str, tags: dict[str, str], run: str | None = None) -> Version:
    metrics = {"top1": 0.9, "average_madds": 1.0}
    return registry.register(
        name, home / "model", stage="supernet", run_id=run, tags=tags, metrics=metrics
    )


def test_a_chain_that_tests_on_its_parents_training_pictures_says_so(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "whole" / "in", "train", list(range(12)))
    written(tmp_path / "whole" / "in", "test", list(range(20, 24)))
    written(tmp_path / "subset" / "in", "train", list(range(30, 34)))
    written(tmp_path / "subset" / "in", "test", [40, 3, 41, 5, 7], kind="BMP")
    whole, subset = (ingest(config(tmp_path / name)) for name in ("whole", "subset"))
    parent = trained(home, "seen", whole)
    tags = {**parent.tags, "parent": parent.uri, "fingerprint": "child"}
    child = registered(home, "seen", {k: tags[k] for k in registry.REQUIRED_TAGS})
    # On another machine: what the run has kept is all that there is.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for version in (parent, child):
        caplog.clear()
        warn_of_seen(version, subset)
        (line,) = [text for text in caplog.messages if "was trained on" in text]
        assert line.startswith(f"{version.uri}, or what it comes from, was trained on 3 of the 5 ")
    caplog.clear()
    warn_of_seen(parent, whole)  # its own data, whose splits are compared anyway
    assert "was trained on" not in caplog.text


def test_evaluate_says_how_many_of_its_pictures_the_model_was_trained_on(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(home, "digits", ingest(config_from_dict({})))
    command = ["evaluate", "models:/digits/1", "--config", str(DIGITS)]
    assert cli.run(command) == 0
    assert "was trained on" not in caplog.text
    assert cli.run([*command, "--data.test_split", "train"]) == 0
    assert "was trained on 1437 of the 1437 test pictures (digits, train)" in caplog.text
