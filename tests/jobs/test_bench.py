"""Benchmarks: in turns, summed up as written, and on the same work for all that is compared."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from jobs import cli
from jobs.bench.interleaved import Figure, Measure, clocked, compare, throughput
from jobs.bench.pictures import digits, photographs
from jobs.bench.readers import READERS, Pictures
from pipeline.data.ingest.ingest import ingest

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
    pictures = Pictures("digits", "digits", 8, beton, tmp_path / "digits", batch_size=16)
    for name, reader in READERS.items():
        batches = [images.clone() for images in reader(pictures)()]
        assert [tuple(sorted(images.shape)) for images in batches] == [(3, 8, 8, 16)] * 2, name
        assert {images.dtype for images in batches} == {torch.uint8}
        # A scan's ink is in its middle: a shift by a pixel leaves the average what it was.
        average = torch.cat([images.flatten() for images in batches]).float().mean()
        assert float(average) == pytest.approx(78, abs=12), name


# The command -------------------------------------------------------------------------------------


def dsnet(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_an_unknown_benchmark_is_refused_with_a_list(
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
    assert flag in refusal and "loader" in refusal and "(frontier, denoise)" in refusal


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
