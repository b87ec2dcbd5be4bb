"""The plot of a training: each width's line is where its figures are."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import CLASSIFICATION
from pipeline.report.chart import decimals, ticks
from pipeline.report.curves import curves

SVG = "{http://www.w3.org/2000/svg}"
TOP1 = CLASSIFICATION.headline


def report(epoch: int, values: dict[str, float], measure: str = "top1") -> dict[str, Any]:
    return {"epoch": epoch, "holdout": {measure: values}}


def lines(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Each line's places on the drawing, by its name."""
    found = {}
    for line in ElementTree.fromstring(svg).iter(f"{SVG}polyline"):
        name = line.find(f"{SVG}title")
        if name is not None and name.text:  # else it is of the legend
            pairs = line.attrib["points"].split()
            found[name.text] = [(float(x), float(y)) for x, y in (p.split(",") for p in pairs)]
    return found


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_lines_rise_with_the_figures_and_run_with_the_epochs() -> None:
    history = [
        report(epoch, {"width 0": 0.2 * epoch, "width 1": 0.25 * epoch}) for epoch in (1, 2, 4)
    ]
    # What was reported in between without figures has no point.
    history.insert(1, {"step": 17, "loss": {"largest": 1.0}})
    svg = curves(history, TOP1)
    assert svg is not None
    drawn = lines(svg)
    assert list(drawn) == ["width 0", "width 1"]
    (x1, y1), (x2, y2), (x4, y4) = drawn["width 0"]
    assert (x4 - x2) == pytest.approx(2 * (x2 - x1), abs=0.3)
    assert (y2 - y4) == pytest.approx(2 * (y1 - y2), abs=0.3) and y4 < y1
    assert drawn["width 1"][0][1] < y1
    assert "top-1 on held-out images, by width" in texts(svg) and "epoch" in texts(svg)
    assert {"20%", "100%"} <= set(texts(svg))


def test_of_many_widths_the_slimmest_the_widest_and_what_routes_are_named() -> None:
    values = {f"width {index}": 0.5 + index / 100 for index in range(14)} | {"dynamic": 0.55}
    svg = curves([report(1, values), report(2, values)], TOP1)
    assert svg is not None and len(lines(svg)) == 15
    names = [text for text in texts(svg) if text.startswith(("width", "dynamic"))]
    assert names == ["width 0", "width 13", "dynamic"]


def test_another_measure_is_in_its_own_unit() -> None:
    psnr = Measure("psnr", "PSNR", unit="dB")
    svg = curves([report(n, {"width 0": 20.0 + n}, "psnr") for n in range(1, 6)], psnr)
    assert svg is not None
    assert any(re.fullmatch(r"\d+(\.\d+)? dB", text) for text in texts(svg))


def test_one_report_is_a_dot_and_none_is_no_plot() -> None:
    svg = curves([report(1, {"width 0": 0.5})], TOP1)
    assert svg is not None and svg.count("<title>width 0, epoch 1: 50.00%") == 1
    assert curves([{"epoch": 1, "loss": {"largest": 1.0}}], TOP1) is None


@pytest.mark.parametrize("low", [0.0, 0.9])
def test_labels_have_the_digits_that_tell_them_apart(low: float) -> None:
    up = ticks(low, 1.0, 6)
    digits = decimals([100 * value for value in up])
    assert len({f"{value:.{digits}%}" for value in up}) == len(up)
