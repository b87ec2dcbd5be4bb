"""A stage that would compute something else says so by its revision, and nothing else does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dsnet.training import update_teacher
from pipeline.data.threads import torch_threads
from pipeline.stages import supernet
from tests.pipeline.stages.tiny import RECORDED, STAGES, Numbers, Tiny

# Sums of a few hundred float32 numbers differ in their sixth digit between processors; a change of
# a loop's arithmetic shows in the third or fourth.
TOLERANCE = 2e-4
# Images whose two best answers are that close to each other, and which may take either.
UNDECIDED = 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with torch_threads(1):
        yield Tiny(tmp_path_factory.mktemp("tiny"))


def recorded(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())[stage]
    return found


def changed(now: Numbers, then: Numbers) -> list[str]:
    """What differs by more than another processor would make it."""
    names = sorted(now.keys() | then.keys())
    return [name for name in names if not same(name, now.get(name), then.get(name))]


def same(name: str, now: float | None, then: float | None) -> bool:
    counted = name.startswith("evaluation/")
    slack = UNDECIDED if counted else TOLERANCE / 10
    return None not in (now, then) and now == pytest.approx(then, rel=TOLERANCE, abs=slack)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_computes_what_its_revision_did(stage: str, tiny: Tiny) -> None:
    spec, compute = STAGES[stage]
    then = recorded(stage)
    record = "and record it: python -m tests.pipeline.stages.tiny"
    assert then["revision"] == spec.revision, f"a new revision: {record}"
    different = changed(compute(tiny), then["numbers"])
    assert not different, (
        f"stage {stage} now computes something else ({', '.join(different[:3])}): raise its "
        f"revision in pipeline/stages, {record}"
    )


def test_a_change_of_a_loops_arithmetic_is_found(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_little_faster(teacher: Any, model: Any, decay: float, skip: Any) -> None:
        update_teacher(teacher, model, decay - 0.01, skip)

    monkeypatch.setattr(supernet, "update_teacher", a_little_faster)
    assert changed(STAGES["supernet"][1](tiny), recorded("supernet")["numbers"])
