"""The page of a version that no sweep made shows what was counted, and stands on its own."""

import json
import re
from pathlib import Path

import pytest
import torch

import dsnet
from dsnet import DSNet, Metadata
from dsnet.tasks.class_tally import ClassTally
from pipeline.report.evaluation_page import ClassRow, class_rows, render_evaluation
from pipeline.store.version import Version, read_version
from pipeline.training.evaluation import Evaluation, Sums
from tests.browser import assert_page_works, needs_browser

NAMES = ("ant", "bee", "<cat>")
NETWORKS = ("width 0", "width 1", "width 2", "width 3", "dynamic")


@pytest.fixture
def model() -> DSNet:
    return dsnet.create_model("ds_mbnet_digits", 3, metadata=Metadata(resolution=8, classes=NAMES))


@pytest.fixture
def version() -> Version:
    static = Sums({"top1": (1, 2, 3, 4), "top5": (8, 8, 8, 8)}, {})
    counted = Evaluation(8, static, Sums({"top1": (5,), "top5": (8,)}, {}), (2, 6, 0, 0))
    tags = {
        "stage": "gate",
        "dataset_digest": "d" * 64,
        "evaluation": json.dumps(counted.to_dict()),
        "metrics": "top1 average_madds",
        "top1": "0.625",
        "average_madds": "5.0",
    }
    return read_version("zoo", 3, tags, ["champion"], run_id="run", source="here")


def tally() -> ClassTally:
    """Of two ants one is right, of three bees all, of three cats none: two ants, one bee."""
    counted = ClassTally(3)
    answers = torch.tensor([0, 1, 1, 1, 1, 0, 0, 1])
    logits = torch.nn.functional.one_hot(answers, 3).double()
    counted.add(logits, torch.tensor([0, 0, 1, 1, 1, 2, 2, 2]))
    return counted


def test_classes_come_with_what_they_are_taken_for_the_worst_first() -> None:
    assert class_rows(tally().figures(NAMES)) == [
        ClassRow("<cat>", 3, 0.0, "ant (2), bee (1)"),
        ClassRow("ant", 2, 0.5, "bee (1)"),
        ClassRow("bee", 3, 1.0, ""),
    ]


def test_the_page_loads_nothing_and_has_every_network_and_class(
    model: DSNet, version: Version
) -> None:
    page = render_evaluation(version, model, dict.fromkeys(NETWORKS, tally().figures(NAMES)))
    for text in ("12.50%", "50.00%", "62.50%", "models:/zoo/3, champion", "&lt;cat&gt;"):
        assert text in page
    assert "<cat>" not in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    shares = re.findall(r'<td class="n">(\d+\.\d)%</td>\s*</tr>', page)
    assert shares == ["25.0", "75.0", "0.0", "0.0"]


def test_a_version_of_before_classes_were_counted_has_a_page_that_says_so(
    model: DSNet, version: Version
) -> None:
    page = render_evaluation(version, model, {})
    assert "62.50%" in page and "Calibration error" not in page
    assert "dsnet run --force evaluate" in page


@needs_browser
def test_the_page_works_in_a_browser_of_any_width(
    model: DSNet, version: Version, tmp_path: Path
) -> None:
    page = tmp_path / "evaluation.html"
    page.write_text(
        render_evaluation(version, model, dict.fromkeys(NETWORKS, tally().figures(NAMES)))
    )
    assert_page_works(page)
