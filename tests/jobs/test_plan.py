"""dsnet plan: says what a run does and takes, and writes nothing."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dsnet import DSNet, create_model
from dsnet.errors import InputError
from dsnet.models.create import of_one_width
from jobs import cli
from pipeline.cluster.ray_cluster import check_capacity
from pipeline.cluster.resources import Resources
from pipeline.config import Cluster, config_from_dict
from pipeline.data.dataset import ingest
from pipeline.runner.estimate.sizes import sizes_of
from pipeline.runner.estimate.work import of_bootstrap, of_supernet

IMAGENET = Path(__file__).parents[2] / "jobs" / "configs" / "imagenet_mbnet.yaml"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("DSNET_HOME", str(folder))
    return folder


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run(["plan", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_imagenet_is_planned_without_data_from_a_stated_size_and_speed(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    sizes = ("--images", "1281167", "--test-images", "50000")
    found = plan(capsys, "--config", str(IMAGENET), *sizes, "--images-per-second", "4000")
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["supernet", "calibrate", "table", "gate", "evaluate"]
    # The paper's recipe on the 98 % that are trained on, whole batches of 8 x 64 alone.
    steps = 150 * ((1281167 - round(0.02 * 1281167)) // 8 // 64)
    assert stages["supernet"]["steps"] == steps
    assert stages["supernet"]["images"] == steps * 8 * 64
    training = steps * 8 * 64 / 4000
    evaluations = stages["supernet"]["seconds"] - training
    assert 0 < evaluations < 0.05 * training
    parts = found["seconds"]["parts"]
    assert math.isclose(found["seconds"]["total"], sum(part["seconds"] for part in parts))
    assert not home.exists()


def test_a_plan_without_data_names_the_flags_that_state_its_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["plan", "--config", str(IMAGENET), "--data.source", str(tmp_path / "none")]
    assert cli.run(words) == 2
    assert "expected --images and --test-images" in capsys.readouterr().err


def test_a_plan_finds_the_betons_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    config = tmp_path / "digits.yaml"
    config.write_text("name: planned\n")
    before = plan(capsys, "--config", str(config))
    assert not before["data"]["ingested"]
    assert before["seconds"] is None
    assert not home.exists()
    ingest(config_from_dict({"name": "planned"}))
    written = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    after = plan(capsys, "--config", str(config))
    assert after["data"]["ingested"]
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == written
    # What was foreseen of the betons is what they take.
    sizes = sum(path.stat().st_size for path in home.rglob("*.beton"))
    assert before["storage_bytes"]["betons"] == after["storage_bytes"]["betons"] == sizes
    counts = [before["data"][key] for key in ("train", "test", "classes")]
    assert counts == [after["data"][key] for key in ("train", "test", "classes")] == [1437, 360, 10]


def test_a_plan_opens_the_source_and_speaks_of_it_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for number in range(20):
        (folder := tmp_path / "pictures" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (config := tmp_path / "pictures.yaml").write_text(
        f"data: {{source: {tmp_path / 'pictures'}, recipe: digits}}\n"
        "model: {arch: ds_mbnet_digits}\n"
    )
    with caplog.at_level(logging.INFO):
        assert cli.run(["plan", "--config", str(config)]) == 0
    assert caplog.text.count("4 of 20 pictures are held out to test on") == 1


def test_a_step_of_stage_one_costs_what_its_passes_do() -> None:
    """Forward and backward of each student pass; the ensemble's teacher runs forward alone."""
    model = create_model("ds_mbnet_digits", 10)
    widths = [model.madds(width) for width in range(len(model.space))]
    largest = model.madds(model.space.largest)
    plain, ensemble, labels = (
        of_bootstrap(config_from_dict({"supernet": {"bootstrap": how, "random_widths": 0}}), model)
        for how in ("plain", "ensemble", "labels")
    )
    assert labels == 3 * (largest + widths[0])
    assert plain == ensemble == labels + largest
    # No more widths are drawn than there are between the two ends.
    many, all_of_them = (
        of_bootstrap(config_from_dict({"supernet": {"random_widths": count}}), model)
        for count in (100, len(widths) - 1 - (model.space[-1] == model.space.largest))
    )
    assert many == all_of_them


def test_a_network_of_one_width_is_trained_once_a_step() -> None:
    model = DSNet(of_one_width(create_model("ds_mbnet_digits", 10).architecture, 0))
    assert of_bootstrap(config_from_dict({}), model) == 3 * model.madds(0)


def test_epochs_on_smaller_images_are_counted_at_their_own_resolution() -> None:
    """An epoch at 8 pixels, one at 16 and the last at 24."""
    model = create_model("ds_mbnet_digits", 10)
    section = {"epochs": 3, "resolution_from": 8, "resolution_until": 1.0, "warmup_epochs": 0}
    config = config_from_dict({"data": {"resolution": 24}, "supernet": section})
    work = of_supernet(config, model, train=256, holdout=0)
    each = [of_bootstrap(config, model, side) for side in (8, 16, 24)]
    assert each == sorted(set(each))
    assert work.madds == work.images // 3 * sum(each)


def test_each_worker_is_placed_on_one_node() -> None:
    """Sixteen CPUs on two nodes have no room for three workers of six."""
    nodes = Resources("here", ((8.0, 1.0), (8.0, 1.0)))
    assert nodes.cpus == 16
    assert nodes.places(Cluster(workers=3, cpus_per_worker=6.0)) == 2
    assert nodes.places(Cluster(workers=3, cpus_per_worker=2.0, gpus_per_worker=0.5)) == 4
    assert nodes.places(Cluster(workers=3, cpus_per_worker=2.0, gpus_per_worker=2.0)) == 0


def test_workers_that_no_nodes_have_room_for_are_refused_as_they_are_planned() -> None:
    """Sixteen CPUs in all are no room for two workers of eight where no node has eight."""
    asked = Cluster(workers=2, cpus_per_worker=8.0)
    split = Resources("this cluster", ((12.0, 0.0), (4.0, 0.0)))
    assert not split.ever_fits(asked)
    with pytest.raises(InputError, match=r"cluster\.workers: .*room for 1 workers .*found 2"):
        check_capacity(asked, split)
    check_capacity(asked, Resources("this cluster", ((8.0, 0.0), (8.0, 0.0))))
    # Elastic workers start with the fewest.
    check_capacity(asked.model_copy(update={"workers": (1, 2)}), split)
    # Nodes to come have sizes that nobody knows: their sum alone is a bound.
    check_capacity(asked, Resources("this cluster", split.nodes, most=(24.0, 0.0)))
    with pytest.raises(InputError, match=r"may grow to 24 CPUs"):
        check_capacity(
            asked.model_copy(update={"workers": 4}),
            Resources("this cluster", split.nodes, most=(24.0, 0.0)),
        )


def test_what_is_stated_wins_over_what_is_here() -> None:
    sizes = sizes_of(config_from_dict({}), None, 10_000, 2000, None)
    assert (sizes.train, sizes.test, sizes.classes) == (10_000, 2000, 10)
