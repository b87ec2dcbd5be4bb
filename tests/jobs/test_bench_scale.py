"""A chain on many GPUs, on paper: formulas, options, and what workers here really send."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jobs import cli
from jobs.bench.scale import GROWS, STAYS, _computed, subject
from jobs.bench.scaling import tables, workers
from jobs.bench.scaling.all_reduce import (
    Link,
    exposed,
    ring,
    rounds,
    sent_by_all,
    sent_by_each,
    tree,
)
from jobs.bench.scaling.assumptions import Assumptions
from jobs.bench.scaling.chain import Chain, Measured, last_that_pays
from jobs.bench.scaling.records import of_traffic
from jobs.bench.scaling.workers import Case, fitted, headers
from jobs.bench.team import Team
from pipeline.config import load_config
from pipeline.runner.estimate.work import of_bootstrap

ROOT = Path(__file__).parents[2]
LINK = Link(bytes_per_second=1e9, latency_s=1e-5)
MEGABYTE = 1e6


# Formulas ----------------------------------------------------------------------------------------


def test_one_worker_sends_nothing_and_waits_for_nothing() -> None:
    assert sent_by_each(MEGABYTE, 1) == sent_by_all(1000, 1) == rounds(1) == headers(1000, 1) == 0
    assert ring(MEGABYTE, 1, LINK) == tree(MEGABYTE, 1, LINK) == exposed([0.0, 0.0], 1.0) == 0


def test_a_worker_sends_ever_more_and_never_twice_what_is_reduced() -> None:
    sent = [sent_by_each(MEGABYTE, workers) for workers in (2, 3, 4, 8, 64, 512, 10**9)]
    assert sent[0] == MEGABYTE  # half of it out, half of the sum on
    assert sent == sorted(set(sent)) and sent[-1] < 2 * MEGABYTE
    assert sent[-1] == pytest.approx(2 * MEGABYTE)
    assert 8 * sent_by_each(MEGABYTE, 8) == sent_by_all(int(MEGABYTE), 8) == 14 * MEGABYTE


def test_a_ring_s_latency_grows_with_its_workers_and_a_tree_s_with_their_logarithm() -> None:
    assert ring(0, 512, LINK) == pytest.approx(1022 * LINK.latency_s)
    assert tree(0, 512, LINK) == pytest.approx(18 * LINK.latency_s)
    assert ring(MEGABYTE, 2, LINK) == pytest.approx(1e-3 + 2 * LINK.latency_s)


def test_the_last_bucket_is_never_hidden_and_what_hides_is_never_more_than_all() -> None:
    assert exposed([3.0, 2.0, 1.0], hidden_by=100.0) == 1.0
    assert exposed([3.0, 2.0, 1.0], hidden_by=4.0) == 2.0
    assert exposed([3.0, 2.0, 1.0], hidden_by=0.0) == 6.0


def test_the_fit_finds_the_latency_and_bandwidth_that_times_were_made_with() -> None:
    points = [(m, size, 2e-4 * m + size / 5e8) for m, size in ((2, 1e3), (24, 1e6), (112, 5e7))]
    assert fitted(points) == pytest.approx((2e-4, 1 / 5e8))


# A chain on GPUs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Chain:
    """The paper's on ImageNet, whose data nobody has to have."""
    config = load_config(str(ROOT / "jobs/configs/imagenet_mbnet.yaml"))
    about = subject(config, (1_281_167, 50_000, None))
    measured = Measured(operators=5000, picture_s=1e-3, first_batch_s=0.03, snapshot_s=0.05)
    return Chain(config, about.model, about.sizes, about.by_table, measured, Assumptions())


def test_a_step_takes_what_its_multiply_adds_take_or_what_is_stated(chain: Chain) -> None:
    madds = 64 * of_bootstrap(chain.config, chain.model)
    assert chain.pass_seconds(64) == pytest.approx(2 * madds / (67e12 * 0.2))
    stated = replace(chain, assumed=Assumptions(step_ms=40.0))
    assert stated.pass_seconds(64) == pytest.approx(0.040)
    assert stated.pass_seconds(1) == pytest.approx(5000 * 5e-6)  # operators have to be started


def test_with_one_gpu_nothing_is_sent_and_the_passes_are_nearly_all(chain: Chain) -> None:
    alone = chain.on(1)
    assert alone.step.all_reduce == alone.step.exposed == 0
    train = 1_281_167 - round(1_281_167 * 0.02)
    passes = 150 * (train // 64) * chain.pass_seconds(64)
    assert alone.parts["stage I: passes"] == pytest.approx(passes)
    assert 0.9 < passes / alone.seconds < 1


def test_more_gpus_are_never_slower_while_the_batch_grows_and_never_cheaper(chain: Chain) -> None:
    line = [chain.on(count) for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)]
    seconds, hours = [on.seconds for on in line], [on.gpu_hours for on in line]
    assert seconds == sorted(seconds, reverse=True) and hours == sorted(hours)
    assert [on.steps for on in line][3::3] == [2452, 306, 38]  # 1,255,544 images
    driver = "gate, on the driver alone"
    assert line[0].parts[driver] == line[-1].parts[driver] > 0
    assert line[-1].without_driver == pytest.approx(seconds[-1] - line[-1].parts[driver])


def test_scaling_stops_where_a_doubling_saves_less_than_was_asked(chain: Chain) -> None:
    line = [chain.on(count) for count in (1, 2, 4, 8)]
    assert last_that_pays(line) == 8
    assert last_that_pays(line, saves=0.6) == 1  # no doubling saves more than half


def test_loaders_with_too_few_cores_are_waited_for(chain: Chain) -> None:
    slow = replace(chain, measured=replace(chain.measured, picture_s=0.1))
    on = slow.on(8)
    assert on.step.pictures == pytest.approx(64 * 0.1 / 10)  # ten threads
    waited = on.parts["stage I: passes"] + on.parts["stage I: waiting for pictures"]
    assert waited == pytest.approx(150 * 2452 * 0.64)


def test_gradients_are_the_parameters_that_learn_in_stage_one(chain: Chain) -> None:
    heads = sum(p.nbytes for p in chain.model.slimming_parameters())
    assert sum(chain.buckets) == sum(p.nbytes for p in chain.model.parameters()) - heads


def test_a_batch_that_stays_is_shared_by_gpus_that_divide_it_and_every_record_has_its_name(
    chain: Chain,
) -> None:
    records = list(_computed(chain, (8, 48, 64)))
    found = {record.name: record.value for record in records}
    assert len(found) == len(records) and {record.runs for record in records} == {0}
    for way, images in ((GROWS, (512, 3072, 4096)), (STAYS, (512, None, 512))):
        names = [f"computed {way}, {count} GPUs: batch" for count in (8, 48, 64)]
        assert [found.get(name) for name in names] == list(images)
    # The parts are the whole, and a tree's all-reduce is never the slower one.
    for way in (GROWS, STAYS):
        start = f"computed {way}, 64 GPUs: "
        parts = [found[start + name] for name in chain.on(64).parts]
        assert sum(parts) == pytest.approx(found[start + "all"])
        assert (
            found[start + "all by trees, gate apart"]
            < found[start + "all"] - found[start + "gate, on the driver alone"]
        )


# Workers here ------------------------------------------------------------------------------------

CASE = Case("ds_mbnet_digits", 10, 8, 2, reductions=1)


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with Team(2, 1, partial(workers.works, [CASE])) as team:
        yield team


def test_two_workers_send_their_parameters_bytes_once_as_the_formula_says(team: Team) -> None:
    sent = workers.traffic(team, CASE)
    model = workers.network(CASE)
    learning = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert [sum(each.reduced) for each in sent] == [learning, learning]
    # To the byte, with the headers of gloo's messages.
    extra = sum(headers(size, 2) for size in sent[0].reduced)
    assert [each.written - extra for each in sent] == [sent_by_each(learning, 2)] * 2
    by_name = {record.name: record for record in of_traffic({(CASE.arch, 2): sent})}
    wire = by_name["measured ds_mbnet_digits, 2 workers: bytes on the wire"]
    assert (wire.ratio, wire.runs) == (1, 1)
    assert by_name[str(wire.against)].runs == 0  # computed


# The command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--gpus", "64,8"], "expected numbers of GPUs in rising order, such as 8,64,512"),
        (["--gpus", "8,none"], "found 8,none"),
        (["--utilisation", "1.5"], "--utilisation"),
        (["--price", "0"], "--price"),
        (["--step-ms", "40", "--tflops", "67"], "expected --step-ms or what it is computed from"),
        (["--threads", "2"], "expected a benchmark that reads it"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert cli.run(["bench", "scale", *flags]) == 2
    refusal = capsys.readouterr().err
    assert len(refusal.splitlines()) == 1 and said in refusal


def test_other_benchmarks_refuse_what_only_this_one_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["bench", "loader", "--step-ms", "40"]) == 2
    assert "--step-ms: expected a benchmark that reads it (scale)" in capsys.readouterr().err


def test_the_page_has_the_tables_of_the_record() -> None:
    records = tables.read(ROOT / "docs/results/scale.json")
    page = (ROOT / "docs/scale.md").read_text()
    assert len(tables.PLACE.findall(page)) == len(tables.TABLES)
    assert tables.written(page, records) == page
