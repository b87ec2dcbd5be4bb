"""Pictures in, a gated model in the registry out: what a chain promises, on real parts."""

import json
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

import dsnet
from dsnet import InputError
from dsnet.training import recalibrate
from pipeline import chain
from pipeline.chain import ChainResult
from pipeline.config import config_from_dict
from pipeline.data.dataset import ingest
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.random_bits import permutation
from pipeline.data.sources import open_source
from pipeline.data.split import holdout
from pipeline.report.find import find_report
from pipeline.runner.supernet import given_supernet
from pipeline.stages import evaluate
from pipeline.stages.stage import Upstream
from pipeline.store import registry, tracking
from pipeline.training.evaluation import BY_CLASS, Evaluation
from pipeline.training.local_worker import LocalWorker
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_every_stage_registers_its_version_with_its_lineage(result: ChainResult) -> None:
    supernet, calibrated, gated = result.versions
    assert [v.stage for v in result.versions] == ["supernet", "calibrate", "gate"]
    assert [v.uri for v in result.versions] == [
        "models:/small-supernet/1",
        "models:/small-supernet/2",
        "models:/small/1",
    ]
    assert (supernet.tags["parent"], calibrated.tags["parent"], gated.tags["parent"]) == (
        "",
        supernet.uri,
        calibrated.uri,
    )
    for version in result.versions:
        assert version.tags["dataset_digest"] == supernet.tags["dataset_digest"]
        assert {"fingerprint", "code_version", "top1", "average_madds"} <= version.tags.keys()
        assert (version.tags["task"], version.tags["headline"]) == ("classification", "top1")
    assert set(gated.aliases) == {"champion", "target-50pct"}


def test_every_test_image_is_counted_once_and_the_figures_come_from_the_registered_version(
    result: ChainResult, tmp_path: Path
) -> None:
    model = dsnet.load(registry.pull(result.version.uri, tmp_path / "model"))
    source = open_source("digits", "test")
    samples = [source[i] for i in range(len(source))]
    pixels = torch.from_numpy(np.stack([np.asarray(s.image) for s in samples]))
    labels = torch.tensor([s.label for s in samples])
    images = dsnet.normalize(pixels, model.metadata.mean, model.metadata.std)
    with torch.inference_mode():
        right = [
            int((model(images, width=i).argmax(1) == labels).sum()) for i in range(len(model.space))
        ]
        logits, widths = model.dynamic(images)
    counts = Evaluation.from_dict(json.loads(result.version.tags["evaluation"]))
    assert counts.images == len(samples) == 360
    assert list(counts.static.values["top1"]) == right
    (routed_right,) = counts.routed.values["top1"]
    assert routed_right == int((logits.argmax(1) == labels).sum())
    assert list(counts.picked) == torch.bincount(widths, minlength=len(model.space)).tolist()
    assert result.version.metrics["top1"] == routed_right / 360


def test_while_a_stage_trains_mlflow_has_its_figures_so_far_and_what_is_in_use(
    result: ChainResult,
) -> None:
    client, run = tracking.client(), result.versions[0].run_id
    data = client.get_run(run).data
    steps = configured().supernet.epochs * 20  # whole batches of 2 x 32 among 1,293 images
    for name in ("running/largest", "running/smallest", "running/images_per_second", "running/lr"):
        (*_, last) = client.get_metric_history(run, name)
        assert 0 < last.step <= steps and last.value > 0
    system = {name for name in data.metrics if name.startswith("system/")}
    assert "system/node_0/system_memory_usage_megabytes" in system
    (*_, last) = client.get_metric_history(run, "system/node_0/cpu_utilization_percentage")
    assert last.step == steps and 0 < last.value <= 100


def test_one_worker_counts_what_two_counted(
    result: ChainResult, tmp_path: Path, one_thread: None
) -> None:
    config = configured(cluster={"workers": 1}, evaluate={"batch_size": 50})
    folder = registry.pull(result.version.uri, tmp_path / "model")
    with closing(LocalWorker(config, tmp_path / "evaluation")) as worker:
        evaluate.loop(worker, evaluate.Inputs.of(Upstream(config, ingest(config), folder)))
    found = Evaluation.from_dict(worker.metrics[-1]["evaluation"])
    assert found == Evaluation.from_dict(json.loads(result.version.tags["evaluation"]))
    logged = tracking.client().download_artifacts(
        result.version.tags["evaluate_run"], BY_CLASS, str(tmp_path)
    )
    theirs = json.loads(Path(logged).read_text())
    ours = json.loads((tmp_path / "evaluation" / BY_CLASS).read_text())
    assert ours.keys() == theirs.keys() == {"width 0", "width 1", "width 2", "width 3", "dynamic"}
    for name, figures in ours.items():
        assert np.sum(figures["confusion"]) == 360
        for exact in ("confusion", "accuracy_by_class"):
            assert figures[exact] == theirs[name][exact]
        assert figures["calibration_error"] == pytest.approx(theirs[name]["calibration_error"])
        for one, other in zip(figures["calibration"], theirs[name]["calibration"], strict=True):
            assert one == pytest.approx(other)


def test_the_chains_run_shows_what_it_reads_and_what_came_out(
    result: ChainResult, tmp_path: Path
) -> None:
    client = tracking.client()
    assert result.version.run_id is not None
    stage = client.get_run(result.version.run_id)
    run = client.get_run(stage.data.tags["mlflow.parentRunId"])
    page = Path(client.download_artifacts(run.info.run_id, "data.html", str(tmp_path)))
    assert "1,437 pictures of digits train, 360 pictures of digits test" in page.read_text()
    read = {each.dataset.name for each in run.inputs.dataset_inputs}
    assert read == {"digits train", "digits test"}
    *widths, _ = result.rows
    ends = {"top1_slimmest": widths[0].value, "top1_widest": widths[-1].value}
    assert run.data.metrics == pytest.approx(result.version.metrics | ends)
    assert run.data.tags["registered"] == result.version.uri


def test_an_evaluation_s_run_has_the_plot_and_the_calibration_error_of_every_width(
    result: ChainResult,
) -> None:
    client, run = tracking.client(), result.version.tags["evaluate_run"]
    assert {file.path for file in client.list_artifacts(run)} >= {"by_class.json", "classes.svg"}
    logged = client.get_run(run).data.metrics
    errors = {f"calibration_error/{name}" for name in ("width 0", "width 3", "dynamic")}
    assert logged.keys() >= errors
    dynamic = result.version.metrics["calibration_error"]
    assert dynamic == logged["calibration_error/dynamic"] and 0 < dynamic < 1


def test_a_card_draws_widths_and_gate_as_they_were_counted_when_it_was_made(
    result: ChainResult,
) -> None:
    folder = Path(unquote(urlsplit(result.version.source).path))
    card, drawing = (folder / "README.md").read_text(), (folder / "accuracy.svg").read_text()
    assert "](accuracy.svg)" in card and "held-out training images" in card
    reached = json.loads(result.version.tags["reached"])
    assert [*reached["widths"]] == ["0", "1", "2", "3"] and reached["budgets"] == {}
    assert f"| {reached['widths']['2']:.4f} |" in card
    assert re.findall("<title>([^:]+): ", drawing) == [
        *(f"width {width}" for width in range(4)),
        "as the gate chooses",
    ]
    supernet = Path(unquote(urlsplit(result.versions[0].source).path)) / "accuracy.svg"
    assert "gate" not in re.findall("<title>([^:]+): ", supernet.read_text())


def test_a_chain_s_version_has_a_report_of_its_evaluation(
    result: ChainResult, tmp_path: Path
) -> None:
    find_report(result.version.uri, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in ("small 1: what it reaches", f"{result.version.value:.2%}", "Top-1 by class"):
        assert text in page
    with pytest.raises(InputError, match="measured on test images"):
        find_report(result.versions[0].uri, tmp_path / "none.html")


def test_recalibration_on_two_workers_equals_one_pass_over_the_same_batches(
    result: ChainResult, tmp_path: Path, one_thread: None
) -> None:
    supernet, calibrated, _ = result.versions
    config = configured()
    dataset = ingest(config)
    ours, _ = holdout(dataset.train, config.data.holdout, config.seed)
    order = ours[permutation(len(ours), config.seed, 0)]
    loader = Loader(
        dataset.train.beton,
        LoaderOptions(
            batch_size=config.calibrate.batch_size,
            recipe="digits",
            train=True,
            resolution=8,
            indices=order,
            exact=True,
        ),
    )
    model = dsnet.load(registry.pull(supernet.uri, tmp_path / "supernet"))
    images = [
        dsnet.normalize(b.images, model.metadata.mean, model.metadata.std) for b in loader.epoch(0)
    ]
    assert recalibrate(model, images) == len(ours)
    expected = dict(model.named_buffers())
    found = dict(dsnet.load(registry.pull(calibrated.uri, tmp_path / "calibrated")).named_buffers())
    for name, buffer in expected.items():
        torch.testing.assert_close(found[name], buffer, rtol=1e-6, atol=1e-7)


def test_a_chain_that_ran_is_found_and_not_run_again(result: ChainResult) -> None:
    before = [v.uri for v in registry.versions()]
    again = chain.run(configured())
    assert again.version.uri == result.version.uri
    assert again.rows == result.rows
    assert [v.uri for v in registry.versions()] == before


def test_the_gate_alone_learned_in_stage_two(result: ChainResult, tmp_path: Path) -> None:
    _, calibrated, gated = result.versions
    before = dsnet.load(registry.pull(calibrated.uri, tmp_path / "before")).state_dict()
    after = dsnet.load(registry.pull(gated.uri, tmp_path / "after")).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"stages.3.0.gate.slimming.weight"}


def test_a_supernet_of_another_number_of_classes_is_refused(
    result: ChainResult, workers: WorkerGroup, tmp_path: Path
) -> None:
    other = dsnet.save(dsnet.create_model("ds_mbnet_digits", 7), tmp_path / "other")
    version = registry.register(
        "seven-supernet",
        other,
        stage="supernet",
        run_id=None,
        tags={"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"},
        metrics={"top1": 0.1, "average_madds": 1.0},
    )
    with pytest.raises(InputError, match=r"gate\.supernet models:/seven-supernet/1.*10.*7"):
        chain.run(configured(gate={"supernet": version.uri}), workers=workers)


def test_more_workers_than_the_cluster_will_ever_have_are_refused_before_any_work(
    home: Path, result: ChainResult
) -> None:
    runs = sorted((home / "train").iterdir())
    with pytest.raises(InputError, match=r"cluster\.workers.*4 CPUs.*99 workers"):
        chain.run(configured(cluster={"workers": 99}))
    assert sorted((home / "train").iterdir()) == runs


def test_a_target_out_of_reach_is_refused_with_its_range(home: Path) -> None:
    with pytest.raises(InputError, match=r"target 0\.01: expected 63,776 to 298,064"):
        chain.run(configured(gate={"target": 0.01}))


def test_a_supernet_that_has_seen_the_held_out_images_is_warned_of(
    result: ChainResult, caplog: pytest.LogCaptureFixture
) -> None:
    uri = result.versions[1].uri
    for changed, warnings in (({}, 0), ({"seed": 7}, 1)):
        caplog.clear()
        config = config_from_dict(configured(gate={"supernet": uri}).as_dict() | changed)
        assert given_supernet(config) == result.versions[1]
        assert sum(uri in record.getMessage() for record in caplog.records) == warnings
