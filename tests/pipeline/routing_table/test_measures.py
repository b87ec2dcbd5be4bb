"""A table of a task without labels: its headline is a number of decibels, and no path is right."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from dsnet import InputError
from dsnet.routing import (
    Paths,
    RoutingTable,
    average_madds,
    oracle_errors,
    outcome,
    price_for_average,
    random_errors,
)
from dsnet.tasks.registry import TASKS
from dsnet.training.table_gate import GateOptions, sgs_paths, train_gate
from pipeline.routing_table.arrays import from_arrays
from pipeline.routing_table.description import Description, claim
from pipeline.routing_table.read import read_arrays, read_table
from pipeline.routing_table.shards import shards_of, write_shard
from pipeline.sweep.trial import figures, random_losses, read_gate, write_gate
from pipeline.sweep.tuner import figures_of
from tests.pipeline.sweep.made import describe
from tests.toy import SMOOTHING, Smoothing

from .test_oracle import all_choices, lower_hull_at

MADDS = (40.0, 70.0, 100.0)
COSTS = (0.4, 0.7, 1.0)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, SMOOTHING.name, SMOOTHING)


def smoothed(n: int = 300, seed: int = 0) -> RoutingTable:
    """Each picture needs one of three paths to be clean, and its feature says which."""
    generator = torch.Generator().manual_seed(seed)
    need = torch.randint(3, (n,), generator=generator)
    clean = torch.arange(3) >= need[:, None]
    psnr = torch.where(clean, 30.0, 20.0) + torch.rand(n, 3, generator=generator) / 4
    features = F.one_hot(need, 3) + 0.1 * torch.rand(n, 3, generator=generator)
    return RoutingTable(
        task=SMOOTHING,
        paths=Paths((3,), torch.tensor(MADDS, dtype=torch.float64), (torch.tensor(COSTS),)),
        features=(features[:, None],),
        losses=10 ** (-psnr / 10),
        measures={"psnr": psnr, "mae": 10 ** (-psnr / 20)},
        confidences=None,
        labels=torch.zeros(n, dtype=torch.int64),
        samples=torch.arange(n),
        views=torch.zeros(n, dtype=torch.int64),
    )


def description(rows: int, task: str = SMOOTHING.name, views: int = 0) -> Description:
    about = describe("train" if views else "holdout", rows, features=3, paths=3)
    return replace(about, task=task, views=views, confidences=False)


def written(folder: Path, table: RoutingTable, views: int = 0) -> Description:
    about = description(len(table), views=views)
    claim(folder, about)
    (shard,) = shards_of(about)
    write_shard(folder, shard, about, table)
    return about


# On disk -----------------------------------------------------------------------------------------


def test_a_shard_goes_out_and_comes_back_to_the_bit(tmp_path: Path) -> None:
    table = smoothed()
    back = read_table(tmp_path, written(tmp_path, table))
    assert isinstance(back.task, Smoothing)
    assert back.confidences is None
    assert list(back.measures) == ["psnr", "mae"]
    for name, values in table.measures.items():
        assert back.measures[name].dtype == torch.float32
        assert torch.equal(back.measures[name], values), name
    for name in ("losses", "labels", "samples", "views"):
        assert torch.equal(getattr(back, name), getattr(table, name)), name
    assert torch.equal(back.features[0], table.features[0])


def test_measures_keep_single_precision_where_losses_do_not(tmp_path: Path) -> None:
    table = smoothed()
    back = read_table(tmp_path, written(tmp_path, table, views=1))
    assert back.losses.dtype == torch.float16
    assert torch.equal(back.headline, table.headline)


def test_a_shard_has_a_column_for_each_measure_and_none_for_what_there_is_not(
    tmp_path: Path,
) -> None:
    written(tmp_path, smoothed())
    (file,) = tmp_path.glob("*.parquet")
    schema = pq.read_schema(file)
    assert schema.names == ["sample", "view", "label", "features_0", "losses", "psnr", "mae"]
    assert schema.field("psnr").type == pa.list_(pa.float32(), 3)


def test_a_table_of_another_task_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, smoothed())
    with pytest.raises(InputError, match="with task classification, found one with smoothing"):
        read_table(tmp_path, description(300, task="classification"))


def test_a_table_of_a_task_that_nobody_registered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, smoothed())
    monkeypatch.delitem(TASKS, SMOOTHING.name)
    with pytest.raises(InputError, match=r"table\.json: task must be one of .*, found 'smoothing'"):
        read_table(tmp_path)


def test_arrays_bring_their_task_to_another_process(tmp_path: Path) -> None:
    arrays = read_arrays(tmp_path, written(tmp_path, smoothed()))
    assert "confidences" not in arrays
    table = from_arrays(pickle.loads(pickle.dumps(arrays)))
    assert table.task.headline == SMOOTHING.headline
    assert torch.equal(table.headline, smoothed().headline)


# Algorithms --------------------------------------------------------------------------------------


def test_the_oracle_reaches_the_most_decibels_of_any_choice() -> None:
    table = smoothed(5, seed=2)
    line = oracle_errors(table)
    points = all_choices(-table.headline.double().numpy(), np.array(MADDS))
    for budget in (40.0, 52.0, 61.0, 88.0, 100.0):
        assert line.at(budget) == pytest.approx(lower_hull_at(points, budget), abs=1e-6)
    best = SMOOTHING.headline.of_error(line.at(100.0))
    assert best == pytest.approx(float(table.headline.amax(1).double().mean()), abs=1e-6)


def test_a_price_holds_the_target_and_the_outcome_has_the_means_of_all_measures() -> None:
    table = smoothed()
    logits = [10 * table.features[0]]
    path = table.paths.choose(logits, price_for_average(logits, table.paths, 60.0))
    assert average_madds(table.paths, path) == pytest.approx(60.0, rel=0.01)
    result = outcome(table, path)
    assert list(result.measures) == ["psnr", "mae"]
    for name, values in table.measures.items():
        each = [float(values[row, choice]) for row, choice in enumerate(path.tolist())]
        assert result.measures[name] == pytest.approx(sum(each) / len(each))


def test_a_gate_learns_which_pictures_need_a_wide_path() -> None:
    holdout = smoothed(900, seed=1)
    for target in (48.0, 55.0, 62.0):
        trained = train_gate(smoothed(), holdout, [target])
        (result,) = trained.outcomes
        assert result.madds == pytest.approx(target, rel=0.01)
        at_random = SMOOTHING.headline.of_error(random_errors(holdout).at(result.madds))
        assert result.measures["psnr"] > at_random + 1


def test_sgs_sends_what_the_task_calls_easy_to_the_smallest_path() -> None:
    """Easy is what the widest path does at most half a decibel better."""
    table = smoothed()
    psnr = table.headline
    easy = psnr[:, 0] >= psnr[:, 2] - 0.5
    assert 0.2 < float(easy.float().mean()) < 0.8
    for strategy in ("try_best", "give_up"):  # none of these is hopeless
        taught = sgs_paths(table.task, table.measures, strategy)  # type: ignore[arg-type]
        assert taught is not None
        assert torch.equal(taught, torch.where(easy, 0, 2))
    options = GateOptions(classification=0, complexity=0, sgs_weight=1, rows=10**9)
    trained = train_gate(table, table, (), options)
    path = table.paths.choose(table.logits(trained.heads), 0.0)
    assert torch.equal(path, torch.where(easy, 0, 2))


# Trials ------------------------------------------------------------------------------------------


def test_a_trial_reports_the_tasks_measures_and_its_gate_keeps_them(tmp_path: Path) -> None:
    table = smoothed()
    gate = train_gate(table, table, [50.0, 65.0], GateOptions(steps=40))
    reached = figures(gate, random_losses(table))
    assert {"step", *reached, "memory_mb"} == set(figures_of(SMOOTHING))
    for name in ("psnr", "mae"):
        one, other = (outcome.measures[name] for outcome in gate.outcomes)
        assert reached[name] == pytest.approx((one + other) / 2)
    write_gate(tmp_path, gate)
    assert read_gate(tmp_path).outcomes == gate.outcomes
