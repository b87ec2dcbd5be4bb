"""Benchmarks: in turns, summed up as written, and on the same work for all that is compared."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dsnet import create_model, normalize, save
from dsnet.routing import Frontier, Outcome
from dsnet.tasks.registry import CLASSIFICATION
from dsnet.training import bootstrap_step, make_teacher
from jobs import cli
from jobs.bench import gate, gate_plot
from jobs.bench.gate_accuracy import (
    Versus,
    accuracy,
    gain_over,
    lambda_2,
    price_at,
    straight_through,
    taken,
)
from jobs.bench.gate_cost import cost_records
from jobs.bench.gate_setting import Setting
from jobs.bench.interleaved import Figure, Measure, clocked, compare, throughput
from jobs.bench.pictures import digits, photographs, tar_shards
from jobs.bench.readers import READERS, Pictures
from jobs.bench.supernet import unshared_step
from pipeline.config import config_from_dict
from pipeline.data import dataset as data
from pipeline.data.ingest.ingest import ingest
from pipeline.data.sources import open_source
from pipeline.store.registry import Version
from pipeline.training.worker import alone

KEYS = ["name", "unit", "value", "spread", "runs", "against", "ratio"]


def reading(values: list[float], log: list[str], name: str) -> Measure:
    """A measurement that gives these values in turn, and writes its name into the log."""
    left = iter(values)

    def measure() -> list[Figure]:
        log.append(name)
        return [Figure(next(left), "s")]

    return measure


# In turns ----------------------------------------------------------------------------------------


def test_what_is_compared_takes_turns_and_warm_up_rounds_do_not_count() -> None:
    log: list[str] = []
    measures = {"a": reading([9, 1, 2], log, "a"), "b": reading([9, 3, 4], log, "b")}
    records = compare("x", measures, runs=2)
    assert log == ["a", "b", "a", "b", "a", "b"]
    assert [(r.name, r.value, r.spread, r.runs) for r in records] == [
        ("x a", 1.5, (1, 2), 2),
        ("x b", 3.5, (3, 4), 2),
    ]
    assert all(r.against is None and r.ratio is None for r in records)


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians() -> None:
    # The machine was busy in the second round: both took ten times as long.
    measures = {"a": reading([1, 10, 2], [], "a"), "b": reading([2, 20, 8], [], "b")}
    a, b = compare("x", measures, runs=3, against="a", warmups=0)
    assert (a.against, a.ratio) == (None, None)
    assert (b.against, b.ratio) == ("x a", 2)  # of 2, 2 and 4; the medians' ratio is 8 / 2
    assert (a.value, b.value, b.spread) == (2, 8, (2, 20))


def test_each_may_be_compared_with_another_and_only_in_what_both_measure() -> None:
    def both() -> list[Figure]:
        return [Figure(6, "s"), Figure(3, "s", "part")]

    measures = {"a": reading([2], [], "a"), "b": reading([3], [], "b"), "c": both}
    records = compare("x", measures, runs=1, against={"b": "a", "c": "b"}, warmups=0)
    assert [(r.name, r.against, r.ratio) for r in records] == [
        ("x a", None, None),
        ("x b", "x a", 1.5),
        ("x c", "x b", 2),
        ("x c part", None, None),
    ]


def test_cpu_seconds_are_those_of_child_processes_too_and_sleep_takes_none() -> None:
    wall, cpu = clocked(lambda: time.sleep(0.2))
    assert cpu < 0.1 < wall
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # alive when the clock is read
        _, cpu = clocked(lambda: pool.apply(sum, (range(20_000_000),)))
    assert cpu > 0.2  # what the child took, but for a tick of its clock


def test_throughput_counts_every_call_that_it_repeats() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        time.sleep(0.02)

    per_second, cpu = throughput(call, 10, seconds=0.1)()
    assert len(calls) >= 2
    assert (per_second.unit, cpu.unit) == ("images/s", "CPU ms/image")
    assert per_second.value <= 10 / 0.02  # no faster than the sleep allows
    assert cpu.value < 2  # 20 ms of sleep over 10 images


# The same work -----------------------------------------------------------------------------------


def test_made_photographs_are_as_heavy_as_real_ones_and_no_larger_than_asked(
    tmp_path: Path,
) -> None:
    source = photographs(tmp_path, 8)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(source) == len(files) == 8
    assert {max(Image.open(file).size) for file in files} == {400}
    # 200 photographs of ImageNet, shrunk to the same: 35 kB on average.
    assert 30_000 < sum(file.stat().st_size for file in files) / 8 < 40_000


def test_a_given_folder_s_pictures_are_shrunk_and_repeated(tmp_path: Path) -> None:
    for name, size in (("cat", (900, 300)), ("dog", (50, 80))):
        path = tmp_path / "given" / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", size).save(path)
    source = photographs(tmp_path / "made", 5, source=tmp_path / "given")
    assert source.classes == ("cat", "dog")
    sizes = [Image.open(source[index].path).size for index in range(5)]
    assert sizes == [(400, 133)] * 3 + [(50, 80)] * 2


@pytest.mark.slow
def test_every_reader_gives_as_many_pictures_of_the_same_kind(tmp_path: Path) -> None:
    source = digits(tmp_path / "digits", 40)
    beton = ingest(source, tmp_path / "digits.beton").beton
    shards = tar_shards(source, tmp_path / "shards", 2)
    pictures = Pictures("digits", "digits", 8, beton, tmp_path / "digits", shards, batch_size=16)
    for name, reader in READERS.items():
        batches = [images.clone() for images in reader(pictures)()]
        assert [tuple(sorted(images.shape)) for images in batches] == [(3, 8, 8, 16)] * 2, name
        assert {images.dtype for images in batches} == {torch.uint8}
        # A scan's ink is in its middle: a shift by a pixel leaves the average what it was.
        average = torch.cat([images.flatten() for images in batches]).float().mean()
        assert float(average) == pytest.approx(78, abs=12), name


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_step_that_shares_nothing_finds_the_same_gradients(ensemble: bool) -> None:
    torch.manual_seed(0)
    model = create_model("ds_mbnet_digits", 10, dropout=0.0).train()
    teacher = make_teacher(create_model("ds_mbnet_digits", 10, dropout=0.0))
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    gradients = []
    for step in (bootstrap_step, unshared_step):
        model.zero_grad()
        step(model, teacher, images, labels, [1, 2], ensemble=ensemble, label_smoothing=0.1)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    shared, unshared = gradients
    assert shared.keys() == unshared.keys()
    for name, gradient in unshared.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-5)


# Stage II two ways -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """96 of the digits, and a network that tells them and its widths apart, if at random."""
    folder = tmp_path_factory.mktemp("gate")
    config = config_from_dict(
        {
            "data": {"source": "digits", "recipe": "digits", "dir": str(folder)},
            "model": {"arch": "ds_mbnet_digits", "dropout": 0.0},
            "cluster": {"workers": 1},
            "gate": {"epochs": 1, "batch_size": 16, "target": 0.5},
            "table": {"views": 2, "steps": 20},
        }
    )
    dataset = data.ingest(config)
    torch.manual_seed(0)
    model = create_model("ds_mbnet_digits", 10, dropout=0.0, metadata=dataset.metadata(config))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.uniform_(0.2, 0.6) if name.endswith("var") else buffer.normal_(0, 0.2)
        model.classifier.weight.normal_()
    supernet = Version("bench-supernet", 1, (), "calibrate", {"fingerprint": "0" * 64}, {}, "", "")
    images, aside = np.arange(0, 960, 10), np.arange(5, 960, 20)
    return Setting(config, dataset, supernet, save(model, folder / "model"), images, aside)


def test_both_ways_train_on_the_same_images_and_hold_out_the_same_whatever_the_seed(
    setting: Setting,
) -> None:
    for seeded in (setting, setting.changed(seed=7)):
        with seeded.worker() as worker:
            train = seeded.dataset.train.beton
            straight = [b.indices for b in worker.train_loader(train, 16).epoch(0)]
            held_out = [b.indices for b in worker.holdout_loader(train, 16).epoch(0)]
        assert torch.cat(straight).sort().values.tolist() == setting.images.tolist()
        assert torch.cat(held_out).tolist() == setting.aside.tolist()
        table = seeded.table("train")
        assert table.samples.tolist() == setting.images.tolist() * 2  # views
        assert seeded.table("holdout").samples.tolist() == setting.aside.tolist()
    first, other = setting.table("train"), setting.changed(seed=7).table("train")
    assert not torch.equal(first.losses, other.losses)  # shifted by other pixels


def test_what_the_test_table_says_of_a_straight_through_gate_is_what_its_network_does(
    setting: Setting,
) -> None:
    model = setting.changed(gate={"lambda_sgs": 0.0, "epochs": 2}).straight_through()
    heads = [gate.logits for gate in model.gates]
    table = setting.table("test")
    price = price_at(table, heads, 0.6 * float(table.paths.madds.max()))
    said = taken(table, heads, price)
    assert max(said.shares) < 1
    source = open_source("digits", "test")
    pixels = torch.from_numpy(np.stack([np.asarray(source[i].image) for i in range(len(source))]))
    labels = torch.tensor([source[i].label for i in range(len(source))])
    with torch.inference_mode():
        images = normalize(pixels, model.metadata.mean, model.metadata.std)
        logits, widths = model.dynamic(images, price)
    shares = torch.bincount(widths, minlength=len(model.space)).double() / len(labels)
    assert said.shares == tuple(shares.tolist())
    assert said.measures["top1"] == (logits.argmax(1) == labels).double().mean().item()


def test_a_complexity_of_0_16_is_the_official_weight_on_the_official_network() -> None:
    model = create_model("ds_mbnet")
    assert lambda_2(0.16, model.madds(model.space.routes[-1])) == pytest.approx(0.5, rel=0.002)


def test_a_table_is_paid_for_once_and_straight_through_for_each_target() -> None:
    seconds = {"table": (8.0, 16.0), "gates": (8.0, 16.0), "straight-through": (40.0, 72.0)}
    rounds = [
        {name: [Figure(values[turn], "s")] for name, values in seconds.items()} for turn in (0, 1)
    ]
    records = {record.name: record for record in cost_records("x", rounds, 0)}
    assert records["x: gate on the table"].value == 1.5  # of 8 / 8 and 16 / 8
    for targets, shares in ((8, (2.0, 4.0)), (1, (9.0, 18.0))):
        table = records[f"x: a target of {targets}, table"]
        straight = records[f"x: a target of {targets}, straight-through"]
        assert (table.spread, straight.spread) == (shares, (40.0, 72.0))
        assert straight.against == table.name
        assert straight.ratio == (40 / shares[0] + 72 / shares[1]) / 2


def test_gates_meet_where_held_out_images_have_the_target_and_test_images_the_same_average(
    setting: Setting,
) -> None:
    holdout, test = setting.table("holdout"), setting.table("test")
    slimmest, widest = float(test.paths.madds.min()), float(test.paths.madds.max())
    one_image = {len(table): (widest - slimmest) / len(table) for table in (holdout, test)}
    target = (slimmest + widest) / 2
    versus = Versus(setting.config, setting.table("train"), holdout, test)
    rivals = [straight_through(setting, complexity, widest) for complexity in (0.06, 2.5)]
    assert price_at(holdout, rivals[0], target) != price_at(holdout, rivals[1], target)
    best = min(rivals, key=lambda h: taken(holdout, h, price_at(holdout, h, target)).loss)
    met = taken(holdout, best, price_at(holdout, best, target))
    assert met.madds == pytest.approx(target, abs=one_image[len(holdout)])
    at_target, landed = versus.best_at(target, rivals), versus.where_it_lands(rivals[0])
    assert at_target.straight == taken(test, best, price_at(holdout, best, target))
    assert landed.straight == taken(test, rivals[0], 0.0)
    for pair in (at_target, landed):
        assert pair.level.madds == pytest.approx(pair.straight.madds, abs=one_image[len(test)])


def test_every_place_has_a_figure_of_every_seed_and_the_means_are_over_all(
    setting: Setting, tmp_path: Path
) -> None:
    records = {record.name: record for record in accuracy(setting, "x", seeds=2)}
    points = {name: r for name, r in records.items() if r.unit == "points"}
    means = {name: points.pop(name) for name in list(points) if ", mean " in name}
    assert {r.runs for r in points.values()} == {2}
    # Complexities and targets, each in two ways; targets against what does not look and the oracle.
    assert len(points) == 2 * (5 + 3) + 3 * 3
    for name, by_lot in points.items():
        if name.endswith(" table minus random routing"):
            static = points[name.replace("random routing", "static widths")]
            # A lot is a mixture of static widths, and the best of them are what those are.
            assert all(a >= b - 1e-9 for a, b in zip(by_lot.spread, static.spread, strict=True))
    against_oracle = [r for name, r in points.items() if name.endswith(" table minus oracle")]
    assert len(against_oracle) == 3 and all(r.spread[1] <= 0 for r in against_oracle)
    assert sorted(r.runs for r in means.values()) == [6, 6, 10, 10]
    for name, whole in means.items():
        place, _, what = name.partition(", mean ")
        kind = "complexity" if "complexities" in place else "target"
        parts = [r for n, r in points.items() if kind in n and n.endswith(f" {what}")]
        # Of two seeds the median is the mean.
        assert whole.value == pytest.approx(sum(r.value for r in parts) / len(parts))
        assert whole.spread == (min(r.spread[0] for r in parts), max(r.spread[1] for r in parts))
    gate.draw(list(records.values()), tmp_path / "gate.svg")
    drawing = (tmp_path / "gate.svg").read_text()
    assert all(label in drawing for _, _, label in gate_plot.KINDS.values())


def test_a_gate_is_held_to_what_costs_as_much() -> None:
    line = Frontier(np.array([100.0, 200.0]), np.array([0.3, 0.1]))
    half_way = Outcome(150.0, 0.5, {"top1": 0.82, "top5": 1.0}, (0.5, 0.5))
    assert gain_over(CLASSIFICATION.headline, line, half_way) == pytest.approx(2.0)


def test_one_worker_has_the_batch_that_several_had() -> None:
    values = {"cluster": {"workers": 3}, "gate": {"batch_size": 32}, "table": {"batch_size": 100}}
    config = alone(config_from_dict(values))
    assert (config.cluster.workers, config.gate.batch_size) == (1, 96)
    assert config.table.batch_size == 100  # what a row holds does not depend on it


# The command -------------------------------------------------------------------------------------


def dsnet(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_an_unknown_benchmark_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["bench", "nonsense"]) == 2
    refusal = capsys.readouterr().err
    assert len(refusal.splitlines()) == 1
    assert "nonsense" in refusal and "loader" in refusal and "supernet" in refusal


@pytest.mark.parametrize("flag", ["--gate.epochs", "--config"])
def test_a_benchmark_of_no_chain_refuses_what_it_would_not_read(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert cli.run(["bench", "loader", flag, "5"]) == 2
    refusal = capsys.readouterr().err
    assert len(refusal.splitlines()) == 1
    assert flag in refusal and "loader" in refusal and "(gate, frontier, denoise, scale)" in refusal


@pytest.mark.slow
def test_the_file_holds_the_contract_s_keys_and_the_table_the_same_rows(tmp_path: Path) -> None:
    file = tmp_path / "supernet.json"
    done = dsnet(
        "bench", "supernet", "--quick", "--runs", "1", "--threads", "1", "--json", str(file)
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(file.read_text())
    assert all(list(record) == KEYS for record in records)
    names = {record["name"] for record in records}
    assert len(names) == len(records)
    assert {"supernet ds_mbnet_digits plain", "supernet ds_mbnet_digits, two workers plain"} < names
    for record in records:
        assert record["name"] in done.stdout
        assert record["spread"] == [record["value"], record["value"]]  # of one run
        assert (record["against"] is None) == (record["ratio"] is None)
        assert record["against"] in {None, *names}
