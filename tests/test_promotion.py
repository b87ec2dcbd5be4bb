"""Which version other teams get: the champion is replaced unless it is better at no more cost."""

import pytest

from dsnet.target import parse_target
from pipeline.promotion import dominates, target_alias
from pipeline.registry import Version


def version(top1: float, madds: float, digest: str = "d") -> Version:
    metrics = {"top1": top1, "average_madds": madds}
    return Version("m", 1, (), "gate", {"dataset_digest": digest}, metrics, "run", "source")


@pytest.mark.parametrize(
    ("present", "new", "stays"),
    [
        (version(0.9, 100), version(0.8, 100), True),  # less accurate at the same cost
        (version(0.9, 100), version(0.9, 120), True),  # costlier at the same accuracy
        (version(0.9, 100), version(0.9, 100), False),  # equal: the newer one
        (version(0.9, 100), version(0.95, 200), False),  # another trade-off
        (version(0.9, 100), version(0.8, 50), False),
        (version(0.9, 100), version(0.8, 100, "other"), False),  # not comparable
    ],
)
def test_a_champion_stays_only_where_the_new_version_is_no_better_in_anything(
    present: Version, new: Version, stays: bool
) -> None:
    assert dominates(present, new) is stays


@pytest.mark.parametrize(
    ("target", "alias"),
    [("0.5", "target-50pct"), ("0.335", "target-33_5pct"), ("200M", "target-200M")],
)
def test_a_target_has_an_alias_without_dots(target: str, alias: str) -> None:
    assert target_alias(parse_target(target)) == alias
