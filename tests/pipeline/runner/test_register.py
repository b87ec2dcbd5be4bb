"""What was just registered lies in the storage: the next stage does not fetch it again."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

import dsnet
from dsnet import DSNet
from pipeline.config import config_from_dict
from pipeline.data.dataset import ingest
from pipeline.runner.job import Job
from pipeline.runner.register import register_model
from pipeline.store import tracking
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.embedded_store import embedded_store


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A chain on the digits with an embedded store."""
    with embedded_store(tmp_path_factory.mktemp("home")):
        tracking.configure()
        config = config_from_dict({"name": "kept", "data": {"source": "digits"}})
        with tracking.chain_run(config) as run:
            yield Job(config, ingest(config), run, WorkerGroup())


def registered(job: Job, seed: int) -> tuple[Version, DSNet]:
    torch.manual_seed(seed)
    model = dsnet.create_model("ds_mbnet_digits", metadata=job.dataset.metadata(job.config)).eval()
    metrics = {"top1": 0.5, "average_madds": 1.0}
    name = job.supernet_name
    version = register_model(job, "calibrate", name, model, metrics, f"key {seed}", job.run, None)
    return version, model


def artifacts(version: Version) -> Path:
    """The version's folder among the artifacts of an embedded store."""
    return Path(unquote(urlsplit(version.source).path))


def same(folder: Path, model: DSNet) -> bool:
    found = dsnet.load(folder).state_dict()
    return all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_it_is_there_when_the_artifacts_are_out_of_reach(job: Job) -> None:
    version, model = registered(job, 0)
    shutil.rmtree(artifacts(version))
    assert same(job.local(version), model)


def test_the_chains_own_run_leads_to_the_version_that_its_stage_registered(job: Job) -> None:
    with tracking.stage_run(job.run, "calibrate") as stage:
        version, _ = registered(replace(job, run=stage), 2)
    job.run.registered(version)
    assert job.run.id != stage.id == version.run_id
    run = tracking.client().get_run(job.run.id)
    assert run.data.tags["registered"] == version.uri
    assert f"`{version.uri}`: top-1 50.00% at 1 mult" in run.data.tags["mlflow.note.content"]
    assert version.tags["model_id"] in [each.model_id for each in run.outputs.model_outputs]


def test_one_that_was_altered_since_is_fetched_again(job: Job) -> None:
    version, model = registered(job, 1)
    weights = job.local(version) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert same(job.local(version), model)
