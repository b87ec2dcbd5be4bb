"""A sweep of more joint paths than a table is for: stage II straight through the network."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import dsnet
from dsnet.routing.target import parse_target
from pipeline.chain import ChainResult
from pipeline.config import Config
from pipeline.report import read_results, render
from pipeline.store import registry
from pipeline.sweep.run import SweepResult, sweep
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured, overtaken

TARGETS = [parse_target("0.5")]
ROUTES = [0, 1, 3]


def config_of(result: ChainResult) -> Config:
    return configured(
        name="straight",
        model={"routes": ROUTES},
        gate={"method": "table", "supernet": result.versions[1].uri, "batch_size": 32},
    )


@pytest.fixture(scope="module")
def few_paths() -> Iterator[None]:
    """As if three paths were too many for a table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.runner.train_gate.MAX_PATHS", 2)
        yield


@pytest.fixture(scope="module")
def swept(home: Path, result: ChainResult, few_paths: None, workers: WorkerGroup) -> SweepResult:
    command = "dsnet sweep --targets 0.5"
    return sweep(config_of(result), TARGETS, command, workers=workers)


def test_each_target_has_a_version_whose_network_does_what_the_report_says(
    swept: SweepResult, tmp_path: Path
) -> None:
    assert swept.results.about.paths == ("width 0", "width 1", "width 3")
    for version, row in zip(swept.versions, swept.results.chosen, strict=True):
        assert row.uri and registry.resolve(row.uri) == version
        figures = {**row.measures, "average_madds": row.madds}
        assert row.measures.keys() == {"top1", "top5"}
        assert version.metrics.items() >= figures.items()
        model = dsnet.load(registry.pull(row.uri, tmp_path / str(version.version)))
        assert list(model.space.routes) == ROUTES
        assert row.price == model.metadata.price
        madds = [model.madds(route) for route in ROUTES]
        assert row.madds == pytest.approx(sum(map(float.__mul__, row.routes, map(float, madds))))
        # 360 test images; targets are met on the 144 held-out ones.
        assert row.madds == pytest.approx(row.target_madds, abs=0.08 * madds[-1])


def test_the_report_is_drawn_without_what_only_a_table_knows(swept: SweepResult) -> None:
    page = swept.page.read_text()
    assert page == render(read_results(swept.parquet))
    assert "oracle" not in page.lower().partition("<main>")[2].partition("points to pull")[0]
    assert [row.label for row in swept.results.of_kind("static")] == list(swept.results.about.paths)


def test_the_first_sweep_of_a_name_gives_it_a_champion(swept: SweepResult) -> None:
    assert registry.resolve("models:/straight@champion") == swept.versions[0]


def test_what_is_registered_is_not_trained_again_moves_no_alias_and_the_method_is_said(
    swept: SweepResult,
    result: ChainResult,
    few_paths: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a stage was run again")

    monkeypatch.setattr(WorkerGroup, "run", refuse)
    with overtaken(swept.versions[0], tmp_path) as before, caplog.at_level(logging.WARNING):
        again = sweep(config_of(result), TARGETS, "dsnet sweep")
        assert registry.versions("straight") == before
    assert [v.uri for v in again.versions] == [v.uri for v in swept.versions]
    assert "straight_through is used" in caplog.text
