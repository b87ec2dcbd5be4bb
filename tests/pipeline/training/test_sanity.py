"""What would make a result's figures say less than they seem to is said, and nothing else."""

import pytest

from pipeline.training.sanity import Labels, Point, doubts

NINE = tuple("abcdefghi")
SOUND = Labels(NINE, (100,) * 9, (100,) * 9)
STATIC = [Point("width 0", 0.6, 100.0), Point("width 1", 0.8, 300.0), Point("width 2", 0.7, 400.0)]


def dynamic(top1: float, madds: float, target: float | None = None) -> list[Point]:
    return [Point("dynamic", top1, madds, target)]


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
        ([Point("width 0", 0.132, 100)], [], SOUND, ["chance level: width 0 13.20%", "11.11%"]),
        ([Point("width 0", 0.133, 100)], [], SOUND, None),
        # The most frequent class has more than one in nine: 200 of 1,000.
        (
            [Point("width 0", 0.22, 100)],
            [],
            labels(test=(200,) + (100,) * 8),
            ["width 0 22.00%", "20.00%"],
        ),
    ],
)
def test_a_doubt_is_told_in_one_sentence_and_a_sound_result_has_none(
    static: list[Point], gated: list[Point], counted: Labels, parts: list[str] | None
) -> None:
    found = doubts(static, gated, counted)
    if parts is None:
        assert found == []
        return
    (sentence,) = found
    assert "\n" not in sentence
    assert all(part in sentence for part in parts), sentence


def test_the_issues_result_is_doubted_for_all_that_is_wrong_with_it() -> None:
    """11.5% where chance is 11.1%, below the slimmest width, and far from its target."""
    static = [Point("width 0", 0.192, 100.0), Point("width 1", 0.192, 400.0)]
    counted = labels(train=(60,) + (10,) * 8, test=(20,) * 9)
    found = doubts(static, dynamic(0.115, 100.0, 200.0), counted)
    words = ("are few", "unbalanced", "miss their target", "below", "chance level: dynamic 11.50%")
    assert len(found) == len(words)
    for word, sentence in zip(words, found, strict=True):
        assert word in sentence


def test_the_gates_of_a_sweep_share_a_sentence() -> None:
    gates = [Point("target 0.5", 0.71, 190, 200), Point("target 0.8", 0.79, 330, 320)]
    (sentence,) = doubts(STATIC, gates, SOUND)
    assert sentence.endswith("target 0.5 by -5.0%, target 0.8 by +3.1%")
