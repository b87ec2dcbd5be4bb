"""A task whose targets are pictures, on every stage: nothing on the way speaks of classes."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import dsnet
from dsnet.routing.target import parse_target
from pipeline.data.dataset import ingest
from pipeline.report import render
from pipeline.stages import gate
from pipeline.stages.stage import OnModel, Upstream
from pipeline.store import registry, tracking
from pipeline.sweep.run import SweepResult, sweep
from pipeline.training.local_worker import LocalWorker
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured
from tests.toy import SMOOTHING

CONFIG = configured(
    name="smoothing",
    plugins=["tests.toy_plugin"],
    model={"arch": "ds_toy_smoothing"},
    supernet={"optimizer": "adamw", "lr": 0.003, "epochs": 3, "batch_size": 16},
    gate={"method": "table", "target": None},
    table={"views": 1, "steps": 60},
)
CLASSES = re.compile(r"top-?[15]|label|class(es)?\b|accura", re.IGNORECASE)


def psnr_of(outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    error: np.ndarray = (outputs - targets).double().square().mean((1, 2, 3)).numpy()
    return -10 * np.log10(error)


def words(page: str) -> str:
    """What a page shows, without its tags."""
    body = page.partition("<main>")[2]
    return re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", body, flags=re.DOTALL)


@pytest.fixture(scope="module")
def server(home: Path, mlflow_server: str) -> Iterator[str]:
    """An MLflow server in place of the embedded store; its URI."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        yield tracking.configure()


@pytest.fixture(scope="module")
def swept(server: str, workers: WorkerGroup) -> tuple[SweepResult, list[str]]:
    """What a sweep over two targets found, and what was logged."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("pipeline")
    logger.addHandler(handler)
    targets = [parse_target("0.5"), parse_target("0.8")]
    try:
        found = sweep(CONFIG, targets, "dsnet sweep", workers=workers)
    finally:
        logger.removeHandler(handler)
    return found, said


def test_the_registered_network_does_with_every_test_image_what_the_report_says(
    swept: tuple[SweepResult, list[str]], tmp_path: Path
) -> None:
    result, _ = swept
    (version,) = result.versions
    assert {"champion", "target-50pct", "target-80pct"} <= set(version.aliases)
    assert version.metrics.keys() >= {"psnr", "mae", "psnr_stderr", "average_madds"}
    folder = registry.pull(version.uri, tmp_path / "model")
    dataset = ingest(CONFIG)
    with closing(LocalWorker(CONFIG, tmp_path / "none")) as worker:
        for row in result.results.chosen:
            model = dsnet.load(folder, budget=row.target)
            loader = worker.loader(dataset.test.beton, 64, train=False)
            psnr, madds, grey = [], [], []
            with torch.inference_mode():
                for images, targets in worker.batches(loader.epoch(0), model):
                    outputs, widths = model.dynamic(images)
                    psnr.append(psnr_of(outputs, targets))
                    grey.append(psnr_of(torch.zeros_like(targets), targets))
                    madds += [model.madds(width) for width in widths.tolist()]
            assert row.value == pytest.approx(np.concatenate(psnr).mean(), rel=1e-5)
            assert row.value > np.concatenate(grey).mean() + 3, "it has learned nothing"
            assert row.madds == pytest.approx(np.mean(madds), rel=1e-9)


def test_each_measure_of_the_task_is_in_the_tables_in_mlflow_and_in_the_report(
    swept: tuple[SweepResult, list[str]], home: Path
) -> None:
    """Named in one place: `Smoothing.measures`."""
    result, _ = swept
    (version,) = result.versions
    shown = words(render(result.results))
    shards = list((home / "train" / "tables").glob("smoothing-supernet-*/*/*.parquet"))
    assert {shard.parent.name for shard in shards} == {"train", "holdout", "test"}
    for measure in SMOOTHING.measures:
        assert all(measure.name in pq.read_schema(shard).names for shard in shards)
        assert measure.name in version.metrics
        assert {measure.name, f"holdout_{measure.name}"} <= set(
            pq.read_schema(result.parquet).names
        )
        assert measure.title.lower() in shown.lower()


def test_nothing_on_the_way_speaks_of_classes(swept: tuple[SweepResult, list[str]]) -> None:
    result, said = swept
    assert said and not [line for line in said if CLASSES.search(line)]
    shown = words(render(result.results))
    assert "dB" in shown and not CLASSES.search(shown)
    columns = set(pq.read_schema(result.parquet).names) - {"label"}  # what a row is called
    assert not [name for name in columns if CLASSES.search(name)]
    (version,) = result.versions
    run = tracking.client().get_run(version.run_id)
    assert not [name for name in run.data.metrics if CLASSES.search(name)]
    assert not [name for name in {**version.tags, **version.metrics} if CLASSES.search(name)]


def test_the_servers_password_is_written_and_told_nowhere(
    swept: tuple[SweepResult, list[str]], home: Path, server: str
) -> None:
    result, said = swept
    assert all(version.source.startswith("mlflow-artifacts:") for version in result.versions)
    password = os.environ["MLFLOW_TRACKING_PASSWORD"]
    assert not [line for line in said if password in line]
    client = tracking.client()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert runs and not [run for run in runs if password in str(run.to_dictionary())]
    assert not [version for version in registry.versions() if password in str(version)]
    files = [each for each in home.rglob("*") if each.is_file() and each.suffix != ".beton"]
    assert files and not [each for each in files if password.encode() in each.read_bytes()]


def test_its_gate_is_trained_straight_through_too(
    swept: tuple[SweepResult, list[str]], tmp_path: Path
) -> None:
    supernet = registry.versions("smoothing-supernet")[-1]
    folder = registry.pull(supernet.uri, tmp_path / "supernet")
    with closing(LocalWorker(CONFIG, tmp_path / "gate")) as worker:
        gate.loop(worker, OnModel.of(Upstream(CONFIG, ingest(CONFIG), folder)))
    assert dsnet.load(tmp_path / "gate" / "model").gates_trained
    reported = worker.metrics[-1]
    assert reported["train"].keys() >= {"psnr", "mae", "easy"}
    assert reported["holdout"]["psnr"].keys() >= {"width 0", "dynamic"}
