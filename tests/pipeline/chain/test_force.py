"""A stage that is forced is run again on a real cluster, although its result is there."""

import pytest

from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.runner.force import Force
from pipeline.store import registry, tracking
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")


def runs(stage: str) -> int:
    """How many MLflow runs there are of a stage."""
    mlflow = tracking.client()
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    return len(mlflow.search_runs(experiments, f"tags.stage = '{stage}'"))


def test_a_forced_evaluation_counts_again_what_is_there(
    result: ChainResult, workers: WorkerGroup
) -> None:
    before = {stage: runs(stage) for stage in ("supernet", "calibrate", "gate", "evaluate")}
    again = chain.run(configured(), force=Force.of(["evaluate"]), workers=workers)
    assert again.version.uri == result.version.uri and again.rows == result.rows
    after = {stage: runs(stage) for stage in before}
    assert after == before | {"evaluate": before["evaluate"] + 1}
    assert [v.uri for v in registry.versions(result.version.name)] == [result.version.uri]
