"""What a frontier's benchmark records: gains over seeds, and times beside static widths."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

import dsnet
from dsnet import Metadata
from dsnet.models.second_look import Routed
from dsnet.routing.budget import calibrate_prices
from dsnet.routing.target import parse_target
from jobs.bench import frontier
from jobs.bench.frontier_time import shares_run, times
from jobs.bench.options import Options
from pipeline.config import config_from_dict
from pipeline.report import About, Images, Results, Row

ABOUT = About(
    task="classification",
    name="made",
    supernet="models:/made-supernet/2",
    arch="ds_mbnet_digits",
    source="digits",
    dataset="d" * 64,
    images=100,
    resolution=8,
    paths=("width 0", "width 1"),
    madds=(100, 200),
    command="",
    code="",
    created="2026-01-02",
    seconds=1.0,
)


def point(kind: str, label: str, madds: float, value: float, **other: object) -> Row:
    row = Row(kind, label, madds=madds, value=value, measures={"top1": value, "top5": 1.0})
    return replace(row, **other)  # type: ignore[arg-type]


def swept(reached: float) -> Results:
    """Two widths of 80 and 90%, and a gate half way between them in cost."""
    rows = (
        point("static", "width 0", 100.0, 0.8),
        point("static", "width 1", 200.0, 0.9),
        point("cascade", "width 0, then 1", 100.0, 0.8),
        point("cascade", "width 0, then 1", 200.0, 0.86),
        point("oracle", "", 100.0, 0.8),
        point("oracle", "", 120.0, 0.95),
        point(
            "gate",
            "target 0.75",
            150.0,
            reached,
            target="0.75",
            routes=(0.5, 0.5),
            stderr=0.01,
            static_stderr=0.005,
            chosen=True,
        ),
    )
    return Results(ABOUT, rows, Images())


def test_gains_are_medians_over_seeds_with_the_smallest_and_the_largest() -> None:
    found = {r.name: r for r in frontier.values("x", [swept(0.87), swept(0.88), swept(0.91)])}
    width = found["x: width 1 top-1"]
    assert (width.value, width.unit, found["x: width 1 MAdds"].value) == (90.0, "%", 200.0)
    gate = found["x: target 0.75 top-1"]
    assert (gate.value, gate.spread, gate.runs) == (88.0, (87.0, 91.0), 3)
    over = {
        "the widest": -2.0,
        "static widths": 3.0,  # 85% is half way between the two
        "random routing": 3.0,
        "a cascade": 5.0,
        "the oracle": -7.0,
    }
    for other, points in over.items():
        record = found[f"x: target 0.75 minus {other}"]
        assert (record.value, record.unit) == (pytest.approx(points), "points")
        assert record.spread == (pytest.approx(points - 1), pytest.approx(points + 3))
    errors = found["x: target 0.75 minus static widths, in standard errors"]
    assert errors.spread == (pytest.approx(4.0), pytest.approx(12.0))


def test_gates_trained_straight_through_are_refused_before_any_work() -> None:
    config = config_from_dict({"gate": {"method": "straight_through"}})
    with pytest.raises(dsnet.InputError, match=r"gate\.method: expected table"):
        frontier.bench(Options(config=config))


def test_what_ran_of_each_width_adds_up_to_what_was_spent() -> None:
    model = dsnet.create_model("ds_mbnet_digits", num_classes=10, metadata=Metadata(resolution=8))
    madds, prefix = [model.madds(route) for route in model.space.routes], model.prefix_madds()
    paths = [path for n in range(1, 5) for path in combinations(range(4), n)]
    spent = [madds[first] + sum(madds[o] - prefix for o in others) for first, *others in paths]
    answers = torch.tensor([path[-1] for path in paths])
    shares = shares_run(model, Routed(torch.empty(len(paths), 10), answers, torch.tensor(spent)))
    assert shares @ madds == pytest.approx(spent)
    assert [tuple(row.nonzero()[0]) for row in shares] == paths
    assert (shares[range(len(paths)), [path[0] for path in paths]] == 1).all()


def test_a_network_s_time_is_compared_with_its_static_widths_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    metadata = Metadata(resolution=8, classes=tuple("0123456789"))
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
    with torch.no_grad():
        model.slimming_parameters()[0].normal_()
    prices = calibrate_prices(model, [torch.randn(64, 3, 8, 8)])
    model.metadata = replace(metadata, prices=prices)
    folder = dsnet.save(model, tmp_path / "model")
    config, options = config_from_dict({}), Options(runs=2, quick=True)
    records = times("x", folder, config, [parse_target(0.75)], options)
    found = {record.name: record for record in records}
    assert len(found) == len(records) == 2 * (len(model.space.routes) + 4)
    for batch in (64, 1):
        dynamic = found[f"x: batch {batch} target 0.75"]
        widths = found[dynamic.against]
        between = [found[f"x: batch {batch} width {i}"].spread for i in range(4)]
        assert dynamic.ratio is not None and dynamic.ratio > 0
        beside = found[f"x: batch {batch} target 0.75, beside what ran"]
        assert beside.value == dynamic.value
        assert beside.ratio is not None and beside.ratio > 0
        assert min(low for low, _ in between) <= widths.value <= max(high for _, high in between)
    static = [
        point("static", f"width {i}", float(model.madds(route)), 0.9 + i / 100)
        for i, route in enumerate(model.space.routes)
    ]
    gated = replace(swept(0.95).rows[-1], madds=0.75 * model.madds(3), routes=(0.25,) * 4)
    records = frontier.values("x", [Results(ABOUT, (*static, gated), Images())]) + records
    frontier.draw(records, tmp_path / "frontier.svg")
    drawing = (tmp_path / "frontier.svg").read_text()
    assert "each image its own width" in drawing and "CPU ms per image" in drawing
    assert f"target 0.75: {95:g} %" in drawing and "prefers-color-scheme: dark" in drawing
