"""Sweeps: one table, a gate for every target, and figures that the network itself confirms."""

import contextlib
import io
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import dsnet
from dsnet import InputError
from dsnet.io.weights import load_gates
from dsnet.routing.target import parse_target
from jobs.commands.sweep import sweep_as_json
from pipeline.chain import ChainResult
from pipeline.config import Config
from pipeline.data.dataset import ingest
from pipeline.data.sources import open_source
from pipeline.predict.model import open_model
from pipeline.report import read_results, render
from pipeline.runner.job import Job
from pipeline.runner.supernet import gateless
from pipeline.runner.tables import Tables, make_tables
from pipeline.store import registry, tracking
from pipeline.sweep.run import SweepResult, sweep
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured, overtaken

TARGETS = ("0.3", "0.5", "0.8")


def sweep_config(result: ChainResult) -> Config:
    return configured(
        name="swept",
        gate={"method": "table", "supernet": result.versions[1].uri, "target": None},
        table={"views": 2, "steps": 60},
    )


@pytest.fixture(scope="module")
def swept(home: Path, result: ChainResult, workers: WorkerGroup) -> SweepResult:
    targets = [parse_target(text) for text in TARGETS]
    command = "dsnet sweep --targets 0.3,0.5,0.8"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        swept = sweep(sweep_config(result), targets, command, workers=workers)
    assert printed.getvalue() == "", "Ray Tune's banner"
    return swept


@pytest.fixture(scope="module")
def tables(swept: SweepResult, result: ChainResult) -> Tables:
    config = sweep_config(result)
    with tracking.chain_run(config) as run:
        job = Job(config, ingest(config), run, WorkerGroup())
        supernet = result.versions[1]
        return make_tables(job, supernet, gateless(job, supernet))


def test_it_is_told_in_json(swept: SweepResult) -> None:
    told = json.loads(json.dumps(sweep_as_json(swept), allow_nan=False))
    assert [row["target"] for row in told["targets"]] == list(TARGETS)
    uris = {f"models:/{v['name']}@{alias}" for v in told["versions"] for alias in v["aliases"]}
    for row, chosen in zip(told["targets"], swept.results.chosen, strict=True):
        assert row["uri"] in uris
        assert (row["madds"], row["value"]) == (chosen.madds, chosen.value)
    assert Path(told["page"]).is_file() and Path(told["parquet"]).is_file()


def test_every_target_is_met_on_held_out_images(swept: SweepResult) -> None:
    assert [row.target for row in swept.results.chosen] == list(TARGETS)
    widest = swept.results.about.madds[-1]
    # The average moves in steps: of one image among 144 that changes its width.
    step = (widest - swept.results.about.madds[0]) / 144
    for row in swept.results.chosen:
        assert row.target_madds == pytest.approx(float(row.target or 0) * widest)
        assert row.holdout["madds"] == pytest.approx(row.target_madds, rel=0.01, abs=step)


def test_the_registered_network_does_with_every_test_image_what_the_table_says(
    swept: SweepResult, tmp_path: Path
) -> None:
    source = open_source("digits", "test")
    samples = [source[i] for i in range(len(source))]
    pixels = torch.from_numpy(np.stack([np.asarray(s.image) for s in samples]))
    labels = torch.tensor([s.label for s in samples])
    folder = registry.pull(swept.versions[0].uri, tmp_path / "model")
    for row in swept.results.chosen:
        model = dsnet.load(folder, budget=row.target)
        images = dsnet.normalize(pixels, model.metadata.mean, model.metadata.std)
        with torch.inference_mode():
            logits, widths = model.dynamic(images)
        assert torch.equal(widths, model.route(images))
        shares = torch.bincount(widths, minlength=len(model.space)).double() / len(labels)
        assert row.routes == pytest.approx(shares.tolist(), abs=0)
        assert row.value == (logits.argmax(1) == labels).double().mean().item()
        madds = sum(model.madds(width) for width in widths.tolist()) / len(labels)
        assert row.madds == pytest.approx(madds, rel=1e-12)


def test_one_version_has_every_targets_alias_and_gate_and_the_report(
    swept: SweepResult, tmp_path: Path
) -> None:
    aliases = {a for a in swept.versions[0].aliases if a.startswith("target")}
    assert aliases == {"target-30pct", "target-50pct", "target-80pct"}
    folder = registry.pull("models:/swept@target-50pct", tmp_path / "model")
    assert (folder / "report.html").read_text() == render(swept.results)
    assert read_results(swept.parquet) == swept.results
    assert len(load_gates(folder)) == len(TARGETS)
    # Where nobody asks, it runs at the middle target, as its metrics say.
    middle = swept.results.chosen[1]
    assert dsnet.load(folder).metadata.price == middle.price
    assert swept.versions[0].metrics == {**middle.measures, "average_madds": middle.madds}
    assert middle.measures["top1"] == middle.value


def test_its_run_has_what_every_target_and_width_reaches(swept: SweepResult) -> None:
    client = tracking.client()
    (run,) = client.search_runs(
        [each.experiment_id for each in client.search_experiments()],
        "attributes.run_name = 'sweep swept: 0.3, 0.5, 0.8' and attributes.status = 'FINISHED'",
    )
    rows = [*swept.results.of_kind("static"), *swept.results.chosen]
    assert len(rows) == 4 + 3
    expected = {f"top1/{row.label}": row.value for row in rows}
    expected |= {f"average_madds/{row.label}": row.madds for row in rows}
    assert run.data.metrics == pytest.approx(expected)
    assert len(run.inputs.dataset_inputs) == 2


def test_its_card_has_every_budget_and_width_and_shows_the_plot(swept: SweepResult) -> None:
    (version,) = swept.versions
    folder = Path(unquote(urlsplit(version.source).path))
    card, results = (folder / "README.md").read_text(), swept.results
    widths = zip(results.about.paths, results.of_kind("static"), strict=True)
    budgets = ((f"budget {row.target}", row) for row in results.chosen)
    for name, row in (*widths, *budgets):
        assert re.search(
            rf"^\| {name} \| {row.madds:,.0f} \| [0-9.]+% \| {row.value:.4f} \|$", card, re.M
        )
    assert "](accuracy.svg)" in card
    drawn = ElementTree.parse(folder / "accuracy.svg")
    titles = [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(results.about.paths) + len(TARGETS)
    assert any(title.startswith("budget 0.3: ") for title in titles)
    described = tracking.client().get_model_version(version.name, str(version.version)).description
    assert len(described) <= 5000 and "accuracy.svg" not in described
    assert described == re.sub(r"\n\n!\[[^\n]*", "", card)


def test_the_alias_of_a_target_is_a_budget(swept: SweepResult) -> None:
    slim, wide = swept.results.chosen[0], swept.results.chosen[-1]
    assert open_model("models:/swept@target-30pct").metadata.price == slim.price
    assert open_model("models:/swept@target-80pct").metadata.price == wide.price
    asked = open_model("models:/swept@target-80pct", "0.3")
    assert asked.metadata.price == slim.price


def test_a_sweep_that_is_there_already_is_not_registered_again_and_moves_no_alias(
    swept: SweepResult, result: ChainResult, tmp_path: Path
) -> None:
    targets = [parse_target(text) for text in TARGETS]
    (version,) = swept.versions
    with overtaken(version, tmp_path) as before:
        again = sweep(sweep_config(result), targets, "dsnet sweep")
        assert registry.versions(version.name) == before
    assert [v.uri for v in again.versions] == [version.uri]


def test_a_table_of_another_supernet_is_refused_by_name(
    tables: Tables, result: ChainResult
) -> None:
    description = tables.folder / "train" / "table.json"
    original = description.read_text()
    other = json.loads(original) | {"supernet": "models:/other-supernet/9"}
    description.write_text(json.dumps(other))
    try:
        with pytest.raises(InputError, match=r"supernet.*other-supernet/9"):
            tables.read("train")
    finally:
        description.write_text(original)
