"""What would make a result's figures say less than they seem to is said, and nothing else."""

import pytest

from dsnet.tasks.measure import Measure
from dsnet.tasks.registry import CLASSIFICATION
from pipeline.runner.sanity import Labels, Point, warnings_of
from pipeline.training.evaluation import standard_error
from tests.toy import SMOOTHING

NINE = tuple("abcdefghi")
SOUND = Labels(NINE, (100,) * 9, (100,) * 9)
TOP1, PSNR = CLASSIFICATION.headline, SMOOTHING.headline


def point(name: str, top1: float, madds: float, target: float | None = None) -> Point:
    """Of 900 images."""
    return Point(name, top1, standard_error(top1, 900), madds, target)


STATIC = [point("width 0", 0.6, 100.0), point("width 1", 0.8, 300.0), point("width 2", 0.7, 400.0)]


def dynamic(top1: float, madds: float, target: float | None = None) -> list[Point]:
    return [point("dynamic", top1, madds, target)]


def labels(**changed: tuple[int, ...]) -> Labels:
    return Labels(NINE, **{"train": SOUND.train, "test": SOUND.test, **changed})


@pytest.mark.parametrize(
    ("static", "gated", "counted", "parts"),
    [
        (STATIC, dynamic(0.71, 200, 200), SOUND, None),
        (STATIC, [], SOUND, None),
        # A target: 3% of it, either way.
        (STATIC, dynamic(0.71, 205.9, 200), SOUND, None),
        (STATIC, dynamic(0.71, 206.1, 200), SOUND, ["by more than 3% on 900", "dynamic by +3.0%"]),
        (STATIC, dynamic(0.71, 193.0, 200), SOUND, ["dynamic by -3.5%"]),
        # Half-way between two widths a mixture of them has 70%; the dynamic network's standard
        # error is sqrt(0.69 * 0.31 / 900), 1.5 points.
        (STATIC, dynamic(0.69, 200), SOUND, None),
        (STATIC, dynamic(0.68, 200), SOUND, ["below", "dynamic 68.00% against 70.00%"]),
        # A dearer width that is worse lends nothing, and takes nothing away.
        (STATIC, dynamic(0.75, 390), SOUND, ["dynamic 75.00% against 80.00%"]),
        # An average of the slimmest width's alone, a rounding below it.
        (STATIC, dynamic(0.5, 100 - 1e-9), SOUND, ["dynamic 50.00% against 60.00%"]),
        # Test images: nine classes of 33 are 297.
        (STATIC, dynamic(0.71, 200), labels(test=(33,) * 9), ["297 test images", "up to 2.9%"]),
        (STATIC, dynamic(0.71, 200), labels(test=(34,) * 9), None),
        # Training images.
        (STATIC, dynamic(0.71, 200), labels(train=(100,) * 8 + (20,)), None),
        (
            STATIC,
            dynamic(0.71, 200),
            labels(train=(1,) + (6,) * 8),
            ["more than 5 to 1: 6 of class b, 1 of class a"],
        ),
        (STATIC, dynamic(0.71, 200), labels(train=(0,) + (6,) * 8), ["0 of class a"]),
        # Chance: 1/9 is 11.11%, on 900 images with a standard error of 1.05 points.
        (
            [point("width 0", 0.132, 100)],
            [],
            SOUND,
            ["chance level (11.11%, standard error 1.05%): width 0 13.20%"],
        ),
        ([point("width 0", 0.133, 100)], [], SOUND, None),
        # Any width at chance counts, and of what is gated a tenth of the way to 100%: 20%.
        (
            [point("width 0", 0.12, 100), point("width 1", 0.6, 300)],
            [],
            SOUND,
            ["did not learn: top-1 is at chance level", "width 0 12.00%"],
        ),
        (
            [point("width 0", 0.18, 100), point("width 1", 0.2, 300)],
            dynamic(0.195, 200),
            SOUND,
            ["did not learn: top-1 is below 20.00%, 10% of the way", "100%: dynamic 19.50%"],
        ),
        (
            [point("width 0", 0.18, 100), point("width 1", 0.23, 300)],
            dynamic(0.205, 200),
            SOUND,
            None,
        ),
        # The most frequent class has more than one in nine: 200 of 1,000.
        (
            [point("width 0", 0.22, 100)],
            [],
            labels(test=(200,) + (100,) * 8),
            ["width 0 22.00%", "20.00%"],
        ),
    ],
)
def test_a_doubt_is_told_in_one_sentence_and_a_sound_result_has_none(
    static: list[Point], gated: list[Point], counted: Labels, parts: list[str] | None
) -> None:
    found = warnings_of(static, gated, TOP1, counted.test_images, counted)
    if parts is None:
        assert found == []
        return
    (sentence,) = found
    assert "\n" not in sentence
    assert all(part in sentence for part in parts), sentence


def test_the_issues_result_is_doubted_for_all_that_is_wrong_with_it() -> None:
    """11.5% where chance is 11.1%, below the slimmest width, and far from its target."""
    static = [point("width 0", 0.192, 100.0), point("width 1", 0.192, 400.0)]
    counted = labels(train=(60,) + (10,) * 8, test=(20,) * 9)
    found = warnings_of(static, dynamic(0.115, 100.0, 200.0), TOP1, 180, counted)
    words = ("are few", "unbalanced", "miss their target", "below", "did not learn")
    assert len(found) == len(words)
    for word, sentence in zip(words, found, strict=True):
        assert word in sentence


def test_the_gates_of_a_sweep_share_a_sentence() -> None:
    gates = [point("target 0.5", 0.71, 190, 200), point("target 0.8", 0.79, 330, 320)]
    (sentence,) = warnings_of(STATIC, gates, TOP1, 900, SOUND)
    assert sentence.endswith("target 0.5 by -5.0%, target 0.8 by +3.1%")


# ------------------------------------------------------------------ decibels, and nothing of labels

DECIBELS = [Point("width 0", 28.0, 0.1, 100.0), Point("width 1", 32.0, 0.1, 300.0)]


@pytest.mark.parametrize(
    ("value", "madds", "images", "sentence"),
    [
        (30.0, 200.0, 900, None),
        # Half-way between the two widths a mixture has 30 dB; the standard error is 0.15 dB.
        (29.9, 200.0, 900, None),
        (
            29.8,
            200.0,
            900,
            "below what static widths, or a mixture of two, reach at the same average: "
            "dynamic 29.80 dB against 30.00 dB",
        ),
        (
            30.2,
            210.0,
            900,
            "average multiply-adds miss their target by more than 3% on 900 test images: "
            "dynamic by +5.0%",
        ),
        (
            30.0,
            200.0,
            299,
            "299 test images are few: the standard error of a PSNR is up to 0.15 dB; "
            "300 or more say more",
        ),
    ],
)
def test_a_task_without_labels_is_doubted_in_its_own_unit(
    value: float, madds: float, images: int, sentence: str | None
) -> None:
    gated = [Point("dynamic", value, 0.15, madds, 200.0)]
    assert warnings_of(DECIBELS, gated, PSNR, images, None) == (
        [] if sentence is None else [sentence]
    )


def test_what_falls_is_doubted_above_the_static_widths() -> None:
    error = Measure("mae", "mean error", rises=False)
    static = [Point("width 0", 0.4, 0.01, 100.0), Point("width 1", 0.2, 0.01, 300.0)]
    assert warnings_of(static, [Point("dynamic", 0.29, 0.01, 200.0)], error, 900, None) == []
    (sentence,) = warnings_of(static, [Point("dynamic", 0.32, 0.01, 200.0)], error, 900, None)
    assert "dynamic 0.32 against 0.30" in sentence
