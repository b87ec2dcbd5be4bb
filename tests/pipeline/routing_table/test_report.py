"""A report's figures are those of its tables, and its page stands on its own."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsnet import InputError
from dsnet.routing import RoutingTable, oracle_errors, outcome
from dsnet.training.table_gate import train_gate
from pipeline.report import (
    About,
    Results,
    Row,
    cascade_rows,
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
from pipeline.report.chart import counts, log_ticks, short, ticks
from pipeline.report.frontier import best_static, line_of, random_routing, static_mixture
from pipeline.report.page import class_bars, confidence_bars, gain
from tests.browser import assert_page_works, needs_browser

from .test_training import MADDS, telling_table

TARGETS = (50.0, 60.0)
NAMES = ("slim", "middle", "wide")


@pytest.fixture(scope="module")
def test_table() -> RoutingTable:
    return replace(telling_table(300, seed=8), labels=torch.arange(300) % 3)


@pytest.fixture(scope="module")
def results(test_table: RoutingTable) -> Results:
    train, holdout = telling_table(), telling_table(300, seed=7)
    rows = [*static_rows(test_table, NAMES), *oracle_rows(test_table)]
    choices = []
    for target in TARGETS:
        trained = train_gate(train, holdout, [target])
        held, logits = (t.logits(trained.heads) for t in (holdout, test_table))
        (price,) = trained.prices
        rows.append(
            gate_row(
                "linear",
                holdout,
                test_table,
                held,
                logits,
                price,
                target=f"{target / 100}",
                target_madds=target,
                seconds=1.5,
                chosen=True,
                uri=f"models:/digits@target-{target:.0f}",
                config={"lr": 0.05},
            )
        )
        choices.append(test_table.paths.choose(logits, price))
    rows += curve_rows(holdout, test_table, held, logits)
    rows.append(Row("gate", "lr 9", target="0.6", error="the worker died"))
    rows.append(Row("gate", "lr 8", target="0.6"))
    images = image_rows(
        test_table,
        ["ant", "bee", "cow"],
        [f"{target / 100}" for target in TARGETS],
        choices,
        hardness(test_table, logits),
        lambda samples: np.repeat(samples.astype(np.uint8), 48).reshape(-1, 4, 4, 3),
    )
    about = About(
        task="classification",
        name="digits",
        supernet="models:/digits-supernet/2",
        arch="ds_mbnet_digits",
        source="digits",
        dataset="d" * 64,
        images=300,
        resolution=4,
        paths=NAMES,
        madds=tuple(int(count) for count in MADDS),
        command="dsnet sweep --config digits.yaml --targets 0.5,0.6",
        code="0.1.0+abc",
        created="2026-01-02",
        seconds=12.0,
    )
    return Results(about, tuple(rows), images)


def test_results_come_back_from_their_file(results: Results, tmp_path: Path) -> None:
    write_results(results, tmp_path / "results.parquet")
    assert read_results(tmp_path / "results.parquet") == results


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    path.write_bytes(b"PAR1 something else")
    with pytest.raises(InputError, match="expected the results of a sweep"):
        read_results(path)


def test_a_static_row_is_one_width_for_all(results: Results, test_table: RoutingTable) -> None:
    for path, row in enumerate(row for row in results.rows if row.kind == "static"):
        assert row.madds == MADDS[path]
        assert row.value == pytest.approx(float(test_table.headline[:, path].double().mean()))
        assert row.routes == tuple(float(p == path) for p in range(3))


def test_random_routing_is_the_mean_over_all_ways_to_deal_out_the_routes() -> None:
    top1 = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    table = replace(telling_table(4), measures={"top1": top1, "top5": top1})
    path = torch.tensor([0, 1, 2, 2])
    rows = static_rows(table, NAMES)
    shares = outcome(table, path).shares
    deals = [
        np.mean([bool(top1[row, choice]) for row, choice in enumerate(deal)])
        for deal in itertools.permutations(path.tolist())
    ]
    results = Results(None, tuple(rows), None)  # type: ignore[arg-type]
    assert random_routing(results, Row("gate", "", routes=shares)) == pytest.approx(np.mean(deals))


def test_the_whiskers_are_the_standard_error_of_the_difference(test_table: RoutingTable) -> None:
    logits = [torch.randn(300, 1, 3, generator=torch.Generator().manual_seed(0))]
    row = gate_row("", test_table, test_table, logits, logits, 0.0)
    path = logits[0][:, 0].argmax(1).numpy()
    right = test_table.headline.double().numpy()
    difference = right[np.arange(300), path] - right @ np.bincount(path, minlength=3) / 300
    assert row.stderr == pytest.approx(difference.std() / np.sqrt(300))


def test_a_gain_over_static_widths_has_the_standard_error_of_its_difference(
    results: Results, test_table: RoutingTable
) -> None:
    logits = [torch.randn(300, 1, 3, generator=torch.Generator().manual_seed(1))]
    row = gate_row("", test_table, test_table, logits, logits, 0.0)
    right = test_table.headline.double().numpy()
    # These widths lie on a concave line: the best mixture is of the two neighbours.
    left = int(row.madds > MADDS[1])
    share = (row.madds - MADDS[left]) / (MADDS[left + 1] - MADDS[left])
    mixture = (1 - share) * right[:, left] + share * right[:, left + 1]
    difference = right[np.arange(300), logits[0][:, 0].argmax(1)] - mixture
    assert row.static_stderr == pytest.approx(difference.std() / np.sqrt(300))
    assert gain(results, row).static == pytest.approx(difference.mean())


def test_a_dull_width_has_no_part_in_the_best_mixture(test_table: RoutingTable) -> None:
    never = test_table.headline.clone()
    never[:, 1] = False
    table = replace(test_table, measures=test_table.measures | {"top1": never})
    shares = static_mixture(table, 55.0)
    assert shares.tolist() == pytest.approx([0.75, 0.0, 0.25])
    assert static_mixture(table, MADDS[0]).tolist() == [1.0, 0.0, 0.0]
    assert static_mixture(table, 2 * MADDS[2]).tolist() == [0.0, 0.0, 1.0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_no_cascade_of_two_widths_is_better_on_held_out_images(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = telling_table(60, seed=seed)
    sure = torch.rand(60, 3, generator=generator)
    right = sure + torch.rand(60, 3, generator=generator) > torch.tensor([1.2, 1.0, 0.8])
    table = replace(table, confidences=sure, measures={"top1": right, "top5": right})
    rows = cascade_rows(table, table)
    line = line_of(rows, table.task.headline)
    assert list(line.madds) == sorted(line.madds)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        for goes_on in range(0, 60, 7):
            last = sure[:, first].argsort()[:goes_on]
            answers = right[:, first].clone()
            answers[last] = right[last, second]
            cost = MADDS[first] + goes_on / 60 * MADDS[second]
            # Thresholds are 1/64 apart, and an image is 1/60: within two images of the line.
            assert 1 - float(answers.double().mean()) >= line.at(cost) - 2 / 60


def test_a_cascade_is_judged_on_test_images_at_the_threshold_of_held_out_ones() -> None:
    holdout, test = telling_table(300, seed=7), telling_table(300, seed=8)
    right = test.headline.numpy()
    rows = cascade_rows(holdout, test)
    # Confidence tells all here: what a width gets wrong goes on, a third of the images each.
    best = rows[-1]
    assert best.label == "width 1, then 2"
    assert best.value == pytest.approx(right.any(1).mean())
    assert best.madds == pytest.approx(MADDS[1] + (~right[:, 1]).mean() * MADDS[2])


def test_where_a_task_does_not_tell_how_sure_it_is_there_is_no_cascade() -> None:
    table = replace(telling_table(30), confidences=None)
    assert cascade_rows(table, table) == []


def test_a_gain_that_could_be_chance_is_not_printed_large(results: Results) -> None:
    def with_errors(error: float) -> Results:
        rows = [replace(r, static_stderr=error) if r.chosen else r for r in results.rows]
        return replace(results, rows=tuple(rows))

    mean = np.mean([gain(results, row).static for row in results.chosen])
    for error, unsure in ((mean / 1.9, True), (mean / 2.1, False)):
        page = render(with_errors(error))
        assert ('<div class="unsure">' in page) is unsure
        assert ("within two standard errors of nothing" in page) is unsure


def test_the_standard_error_of_a_share_is_the_binomial_proportions(results: Results) -> None:
    for row in (*results.of_kind("static"), *results.chosen):
        assert row.value is not None
        assert row.value_stderr == pytest.approx(np.sqrt(row.value * (1 - row.value) / 300))


def test_a_price_curve_runs_over_the_whole_range(results: Results) -> None:
    curve = results.of_kind("curve")
    assert (curve[0].madds, curve[-1].madds) == (MADDS[0], MADDS[-1])
    prices = [row.price for row in curve]
    assert prices == sorted(prices, reverse=True)


def test_the_oracle_rows_lie_on_the_oracle(results: Results, test_table: RoutingTable) -> None:
    line, rows = oracle_errors(test_table), results.of_kind("oracle")
    assert [row.madds for row in rows] == line.madds.tolist()
    assert [1 - row.value for row in rows if row.value] == pytest.approx(line.values)


def test_gains_are_taken_at_equal_multiply_adds(results: Results) -> None:
    for row in results.chosen:
        assert row.madds is not None
        assert row.value is not None
        madds, top1 = [40.0, 70.0, 100.0], [r.value for r in results.rows[:3]]
        found = gain(results, row)
        # The widths of this table lie on a concave line, so it is its own upper hull.
        assert found.static == pytest.approx(
            row.value - np.interp(row.madds, madds, top1), abs=1e-9
        )
        assert found.random == pytest.approx(row.value - np.dot(row.routes, top1))
        assert found.oracle <= 0 < found.random
    assert best_static(results).at(70.0) == pytest.approx(1 - results.rows[1].value)  # type: ignore[operator]


def test_every_image_is_counted_once_at_every_target(results: Results) -> None:
    images = results.images
    for by_class, by_confidence, row in zip(
        images.by_class, images.by_confidence, results.chosen, strict=True
    ):
        assert [sum(counts) for counts in by_class] == [100, 100, 100]
        assert [sum(counts) for counts in by_confidence] == [30] * 10
        for table in (by_class, by_confidence):
            totals = np.sum(table, axis=0) / 300
            assert totals == pytest.approx(row.routes)
    lows, highs = zip(*images.confidence, strict=True)
    assert all(high <= low for high, low in zip(highs[:-1], lows[1:], strict=True))


def test_bars_go_from_slim_to_wide_and_from_sure_to_unsure(results: Results) -> None:
    images = results.images
    bars = class_bars(images, [[1, 1, 2], [4, 0, 0], [0, 0, 0]])
    assert [(bar.label, bar.total, bar.shares) for bar in bars] == [
        ("bee", 4, (1.0, 0.0, 0.0)),
        ("ant", 4, (0.25, 0.25, 0.5)),
    ]
    assert confidence_bars(images, images.by_confidence[0])[0].label.endswith(
        f"{images.confidence[-1][1]:.0%}"
    )


def test_easy_and_hard_pictures_are_one_of_each_class(results: Results) -> None:
    for pictures in (results.images.easy, results.images.hard):
        assert {picture.label for picture in pictures} == {"ant", "bee", "cow"}
    wide = [sum(p.routes[-1] for p in side) for side in (results.images.easy, results.images.hard)]
    assert wide[0] < wide[1]


class Page(HTMLParser):
    """The words of a page, and everything that it points to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.pointers, self.tags = "", [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.pointers += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action", "xlink:href")
        ]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_points_to_nothing_outside_itself(results: Results) -> None:
    html = render(results)
    page = Page(html)
    assert len(page.pointers) == 6
    assert all(pointer.startswith("data:image/png;base64,") for pointer in page.pointers)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html
    assert {"link", "iframe", "object"}.isdisjoint(page.tags)


@needs_browser
def test_tabs_and_copy_buttons_work_in_a_browser_of_any_width(
    results: Results, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(results))
    assert_page_works(page, tabs=len(TARGETS), copies=len(TARGETS))


def test_the_page_says_how_to_pull_each_point(results: Results) -> None:
    words = Page(render(results)).words
    for row in results.chosen:
        assert f"dsnet pull {row.uri} DIR" in words
        assert f"{row.value:.2%}" in words


def test_the_page_says_which_trials_failed_and_which_were_stopped(results: Results) -> None:
    words = Page(render(results)).words
    assert words.count("failed: the worker died") == 1
    assert words.count("stopped early") == 1


def test_a_gate_that_serves_every_target_is_one_trial(results: Results) -> None:
    """One, with a row for each target, beside one that failed and one that was stopped."""
    assert f"3 trials, {len(TARGETS)} targets" in Page(render(results)).words


def test_names_from_outside_are_shown_and_not_obeyed(results: Results) -> None:
    evil = "<script>alert(1)</script>"
    hostile = replace(
        results,
        about=replace(results.about, name=evil, paths=(evil, "b", "c")),
        images=replace(results.images, classes=(evil, "bee", "cow")),
        rows=tuple(replace(row, label=evil) for row in results.rows),
    )
    page = Page(render(hostile))
    assert page.tags.count("script") == 1
    assert evil in page.words


def test_a_sweep_of_which_every_trial_failed_still_has_a_page(results: Results) -> None:
    rows = tuple(row for row in results.rows if row.error or row.kind in ("static", "oracle"))
    empty = replace(results.images, targets=(), by_class=(), by_confidence=(), easy=(), hard=())
    words = Page(render(replace(results, rows=rows, images=empty))).words
    assert "failed: the worker died" in words


@pytest.mark.parametrize(
    ("madds", "text"),
    [
        (132_890_144, "133M"),
        (1_490_000, "1.49M"),
        (118_304, "118k"),
        (4_100_000_000, "4.10G"),
        (40, "40"),
    ],
)
def test_counts_have_three_digits(madds: float, text: str) -> None:
    assert short(madds) == text


def test_ticks_are_round_and_told_apart() -> None:
    assert ticks(0.612, 0.743, 6) == pytest.approx([0.62, 0.64, 0.66, 0.68, 0.70, 0.72, 0.74])
    assert counts([1.5e6, 2e6, 2.5e6]) == ["1.5M", "2.0M", "2.5M"]
    assert counts([1e6, 2e6]) == ["1M", "2M"]
    assert log_ticks(0.69, 2.1, 4) == [5, 10, 20, 50, 100]
    assert log_ticks(0.52, 0.67, 3) == pytest.approx([3.5, 4.0, 4.5])  # no 1, 2 or 5 among them
