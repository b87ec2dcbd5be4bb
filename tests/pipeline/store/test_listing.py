"""`dsnet models`: which versions are listed, and in what order."""

from typing import Any

import pytest

from dsnet import InputError
from pipeline.store.listing import select
from pipeline.store.version import Version


def version(number: int, stage: str = "gate", **metrics: float) -> Version:
    return Version("m", number, (), stage, {}, metrics, "run", "source")


VERSIONS = [
    version(1, stage="supernet", top1=0.98, average_madds=9e5),
    version(2, top1=0.97, average_madds=5e5),
    version(3, top1=0.91, average_madds=2e5),
    version(4, psnr=31.0, average_madds=3e5),  # of another task
]


@pytest.mark.parametrize(
    ("how", "numbers"),
    [
        ({}, [1, 2, 3, 4]),
        ({"stage": "gate"}, [2, 3, 4]),
        ({"stage": "ingest"}, []),
        ({"least": ["top1=0.97"]}, [1, 2]),
        ({"least": ["top1=0.95"], "most": ["average_madds=5e5"]}, [2]),
        ({"sort": "average_madds"}, [3, 4, 2, 1]),
        ({"sort": "-average_madds"}, [1, 2, 4, 3]),
        ({"sort": "top1"}, [3, 2, 1, 4]),  # what has none comes last, either way
        ({"sort": "-top1"}, [1, 2, 3, 4]),
    ],
)
def test_versions_are_chosen_and_sorted(how: dict[str, Any], numbers: list[int]) -> None:
    assert [each.version for each in select(VERSIONS, **how)] == numbers


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sort": "top2"}, "--sort: expected one of average_madds, psnr, top1, found 'top2'"),
        ({"least": ["top2=1"]}, "--min: expected one of average_madds, psnr, top1, found 'top2'"),
        ({"most": ["top1"]}, "--max: expected METRIC=NUMBER, such as top1=0.9, found 'top1'"),
        ({"least": ["top1=nan"]}, "--min: expected METRIC=NUMBER, such as top1=0.9"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(VERSIONS, **how)
