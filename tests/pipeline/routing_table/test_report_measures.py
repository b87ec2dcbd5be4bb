"""A report speaks of its task: of decibels where pictures come out, of one more share if asked."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dsnet import InputError
from dsnet.routing import RoutingTable, oracle_errors, price_for_average
from dsnet.tasks.classification import Classification
from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import TASKS
from pipeline.report import (
    About,
    Results,
    Row,
    curve_rows,
    gate_row,
    hardness,
    image_rows,
    oracle_rows,
    read_results,
    render,
    static_rows,
    write_results,
)
from pipeline.report.frontier import best_static, random_routing
from pipeline.report.page import gain
from pipeline.report.words import Words
from tests.toy import SMOOTHING

from .test_measures import smoothed
from .test_report import Page
from .test_training import telling_table

TARGETS = (50.0, 60.0)
NAMES = ("slim", "middle", "wide")


class Lenient(Classification):
    """A measure more, added in one place."""

    name = "lenient"
    measures = (
        *Classification.measures,
        Measure("top3", "top-3", share=True),
        Measure("rank", "mean rank", rises=False, digits=1),
    )


LENIENT = Lenient()


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for task in (SMOOTHING, LENIENT):
            patch.setitem(TASKS, task.name, task)
        yield


def made_results(holdout: RoutingTable, test: RoutingTable) -> Results:
    """A sweep of two targets, as it would be found on these tables: features are logits enough."""
    held, logits = ([10 * table.features[0]] for table in (holdout, test))
    rows, choices = [*static_rows(test, NAMES), *oracle_rows(test)], []
    for target in TARGETS:
        price = price_for_average(held, holdout.paths, target)
        origin = {"target": f"{target / 100}", "target_madds": target, "seconds": 1.5}
        rows.append(gate_row("linear", holdout, test, held, logits, price, **origin, chosen=True))
        choices.append(test.paths.choose(logits, price))
    rows += curve_rows(holdout, test, held, logits)
    rows.append(Row("gate", "lr 9", target="0.6", error="the worker died"))
    images = image_rows(
        test,
        ["ant"],
        [f"{target / 100}" for target in TARGETS],
        choices,
        hardness(test, logits),
        lambda samples: np.repeat(samples.astype(np.uint8), 48).reshape(-1, 4, 4, 3),
    )
    about = About(
        task=test.task.name,
        name="toy",
        supernet="models:/toy-supernet/2",
        arch="ds_toy",
        source="pictures",
        dataset="d" * 64,
        images=len(test),
        resolution=4,
        paths=NAMES,
        madds=(40, 70, 100),
        command="dsnet sweep --config toy.yaml --targets 0.5,0.6",
        code="0.1.0+abc",
        created="2026-01-02",
        seconds=12.0,
    )
    return Results(about, tuple(rows), images)


@pytest.fixture(scope="module")
def table() -> RoutingTable:
    return smoothed(300, seed=8)


@pytest.fixture(scope="module")
def results(known: None, table: RoutingTable) -> Results:
    return made_results(smoothed(300, seed=7), table)


def with_more(*seeds: int) -> Iterator[RoutingTable]:
    """Tables of `Lenient`: what it measures beyond top-1 and top-5 is made up."""
    for seed in seeds:
        table = telling_table(300, seed)
        rank = 1 + table.losses
        more = {"top3": table.losses < 3 * torch.rand(300, 1), "rank": rank}
        yield replace(table, task=LENIENT, measures={**table.measures, **more})


@pytest.fixture(scope="module")
def lenient(known: None) -> Results:
    torch.manual_seed(0)
    return made_results(*with_more(7, 8))


def columns(html: str, table: str) -> Sequence[str]:
    """The titles of a table's columns."""
    (head,) = re.findall(rf'<table class="{table}">\s*<thead><tr>(.*?)</tr>', html, re.DOTALL)
    return re.findall(r"<th[^>]*>(.*?)</th>", head)


# A task without labels ---------------------------------------------------------------------------


def test_nothing_on_the_page_of_a_task_without_labels_speaks_of_classes(results: Results) -> None:
    html = render(results)
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    words = Page(body).words + " ".join(re.findall(r'(?:title|alt|-label)="([^"]*)"', body))
    assert "PSNR" in words and "width" in words
    for word in ("top", "class", "label", "right", "wrong", "confidence", "points of", "ant"):
        assert not re.search(rf"\b{word}", words, re.IGNORECASE), word
    assert "%" not in " ".join(columns(html, "points"))


def test_values_and_differences_are_in_the_headlines_unit(results: Results) -> None:
    html = render(results)
    words = Page(html).words
    for row in results.chosen:
        assert row.value is not None
        assert f"{row.value:.2f} dB" in words
        assert f"{gain(results, row).static:+.2f}" in words
    assert "dB of PSNR over the best static width at equal cost" in words
    assert "dB above the best static width at equal cost" in words
    assert "Differences are in dB of PSNR at the same average" in words
    assert "Up and to the left is better" in words
    assert 'aria-label="PSNR against average multiply-adds"' in html
    assert re.search(r"multiply-adds, \d\d\.\d\d dB PSNR</title>", html)


def test_axes_are_in_decibels_and_leave_room_for_them(results: Results) -> None:
    wide = render(results).split('<div class="plot wide">')[1].split("</svg>")[0]
    labels = re.findall(r'<text text-anchor="end" x="([\d.]+)" [^>]*>(.*?)</text>', wide)
    places, texts = zip(*labels, strict=True)
    assert all(re.fullmatch(r"\d+(\.\d+)? dB", text) for text in texts)
    assert float(places[0]) >= 7 * max(map(len, texts))
    values = [float(text.split()[0]) for text in texts]
    assert values == sorted(set(values))


def test_gains_are_those_of_the_table(results: Results, table: RoutingTable) -> None:
    psnr = table.headline.double().mean(0).numpy()
    line = oracle_errors(table)
    for row in results.chosen:
        assert row.madds is not None and row.value is not None
        found = gain(results, row)
        # The widths of this table lie on a concave line, so it is its own upper hull.
        static = np.interp(row.madds, [40.0, 70.0, 100.0], psnr)
        assert found.static == pytest.approx(row.value - static)
        assert found.random == pytest.approx(row.value - np.dot(row.routes, psnr))
        assert found.oracle == pytest.approx(row.value + line.at(row.madds))
        assert found.oracle is not None and found.oracle <= 0 < found.random
        assert random_routing(results, row) == pytest.approx(np.dot(row.routes, psnr))
    assert best_static(results).at(70.0) == pytest.approx(-psnr[1])


def test_whiskers_are_the_standard_error_of_the_difference(table: RoutingTable) -> None:
    logits = [10 * table.features[0]]
    row = gate_row("", table, table, logits, logits, 0.0)
    psnr, path = table.headline.double().numpy(), table.paths.choose(logits).numpy()
    own = psnr[np.arange(300), path]
    difference = own - psnr @ np.bincount(path, minlength=3) / 300
    assert row.stderr == pytest.approx(difference.std() / np.sqrt(300))
    assert row.value_stderr == pytest.approx(own.std() / np.sqrt(300))


def test_results_of_another_task_come_back_with_its_columns(
    results: Results, tmp_path: Path
) -> None:
    path = tmp_path / "results.parquet"
    write_results(results, path)
    assert read_results(path) == results
    names = pq.read_schema(path).names
    assert {"psnr", "mae", "holdout_psnr", "holdout_mae"} <= set(names)
    assert not {"top1", "top5", "value", "measures"} & set(names)


def test_results_of_a_task_that_nobody_registered_are_refused(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.parquet"
    write_results(results, path)
    monkeypatch.delitem(TASKS, SMOOTHING.name)
    with pytest.raises(InputError, match=r"results\.parquet: .*task must be one of .*'smoothing'"):
        read_results(path)


def test_pictures_say_what_they_reach_where_none_is_right(
    results: Results, table: RoutingTable
) -> None:
    images = results.images
    assert (images.classes, images.by_class, images.by_confidence, images.confidence) == (
        ((), (), (), ())
    )
    html = render(results)
    assert "Where the images go" not in html
    for pictures in (images.easy, images.hard):
        assert len(pictures) == 12
        for picture in pictures:
            assert (picture.label, picture.right) == ("", ())
            assert all(re.fullmatch(r"\d\d\.\d\d dB", value) for value in picture.values)
            assert f"<figcaption>{picture.caption}" in html
    reached = {f"{value:.2f} dB" for value in table.headline.flatten().tolist()}
    assert {value for picture in images.easy for value in picture.values} <= reached
    slim, wide = (sum(p.routes[-1] for p in side) for side in (images.easy, images.hard))
    assert slim < wide


def test_outputs_that_tell_how_sure_they_are_are_grouped_by_it_without_any_class(
    table: RoutingTable,
) -> None:
    sure = replace(table, confidences=table.headline / 40)
    html = render(made_results(smoothed(300, seed=7), sure))
    assert len(re.findall("<h3>By the slimmest path.s confidence", html)) == len(TARGETS)
    assert "By class" not in html


# One measure more --------------------------------------------------------------------------------


def test_a_measure_that_a_task_adds_is_in_the_file_and_in_both_tables(
    lenient: Results, tmp_path: Path
) -> None:
    write_results(lenient, tmp_path / "results.parquet")
    assert read_results(tmp_path / "results.parquet") == lenient
    file = pq.read_table(tmp_path / "results.parquet").to_pylist()
    html = render(lenient)
    for title in ("Top-1", "Top-5", "Top-3", "Mean rank"):
        assert title in columns(html, "points") and title in columns(html, "trials")
    for row in lenient.chosen:
        (written,) = (line for line in file if line["chosen"] and line["target"] == row.target)
        for name in ("top1", "top5", "top3", "rank"):
            assert written[name] == row.measures[name]
            assert written[f"holdout_{name}"] == row.holdout[name]
        assert html.count(f'data-label="Top-3">{row.measures["top3"]:.2%}<') == 2
        assert html.count(f'data-label="Mean rank">{row.measures["rank"]:.1f}<') == 2


def test_every_row_of_a_table_has_as_many_cells_as_titles(lenient: Results) -> None:
    html = render(lenient)
    for name in ("points", "trials"):
        body = html.split(f'<table class="{name}">')[1].split("</table>")[0].split("<tbody>")[1]
        for row in body.split("</tr>")[:-1]:
            spans = [int(span) for span in re.findall(r'colspan="(\d+)"', row)]
            cells = len(re.findall(r"<t[dh]\b", row)) + sum(spans) - len(spans)
            assert cells == len(columns(html, name))


def test_a_measure_that_nobody_has_counted_yet_is_a_dash(lenient: Results) -> None:
    """As in results from before the task had it."""
    before = [replace(row, measures={}) for row in lenient.rows]
    html = render(replace(lenient, rows=tuple(before)))
    assert html.count('data-label="Top-3">\N{EN DASH}<') == 2 * len(lenient.chosen)


def test_a_format_that_is_not_known_is_refused(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    metadata = {b"dsnet.results": json.dumps({"format": 9})}
    pq.write_table(pa.table({"kind": ["gate"]}).replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="format 9"):
        read_results(path)


# Words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "title", "steps", "steps_of", "heading"),
    [
        (Measure("top1", "top-1", share=True), "Top-1", "points", "points of top-1", "Points"),
        (Measure("psnr", "PSNR", unit="dB"), "PSNR", "dB", "dB of PSNR", "dB"),
        (Measure("ssim", "similarity"), "Similarity", "similarity", "similarity", "Similarity"),
    ],
)
def test_a_measure_is_spoken_of_by_its_unit(
    measure: Measure, title: str, steps: str, steps_of: str, heading: str
) -> None:
    words = Words.of(measure)
    assert (words.title, words.steps, words.steps_of, words.heading) == (
        title,
        steps,
        steps_of,
        heading,
    )


def test_where_less_is_better_the_page_says_down(results: Results, table: RoutingTable) -> None:
    """The same sweep judged by its mean error, of which less is better."""

    class Errors(type(SMOOTHING)):  # type: ignore[misc]
        name = "errors"
        measures = tuple(reversed(SMOOTHING.measures))

    errors = Errors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, errors.name, errors)
        made = made_results(*(replace(t, task=errors) for t in (smoothed(), table)))
        words = Page(render(made)).words
        for row in made.chosen:
            found = gain(made, row)
            assert found.oracle is not None and found.random < 0 <= found.oracle
            assert row.value == row.measures["mae"]
    assert "Down and to the left is better" in words
    assert "mean error against the best static width at equal cost" in words
