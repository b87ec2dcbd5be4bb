"""A stage of one's own takes part in a chain by one line: its place in the list."""

import pytest
import torch

import dsnet
from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.data.dataset import ingest
from pipeline.runner.job import Job
from pipeline.store import tracking
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured
from tests.pipeline.stages import rounding

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_it_goes_on_from_the_stage_before_it_which_is_not_run_again(
    result: ChainResult, workers: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "SUPERNET", (*chain.SUPERNET, rounding.STAGE))
    config = configured()
    with tracking.chain_run(config) as run:
        job = Job(config, ingest(config), run, workers)
        version = chain.make_supernet(job)
        again = chain.make_supernet(job)
    calibrated = result.versions[1]
    assert (version.stage, version.tags["parent"]) == ("rounding", calibrated.uri)
    assert version.name == calibrated.name
    assert again == version
    for parameter in dsnet.load(job.local(version)).parameters():
        assert torch.equal(parameter, parameter.bfloat16().float())
