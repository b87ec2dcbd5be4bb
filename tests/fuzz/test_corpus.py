"""What fuzzing has found, and what it begins with: taken, or refused in one short line."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, check, seeds

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*"))


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_begins_with_is_sound(target: str) -> None:
    for content in seeds(target):
        assert check(target, content) is None


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name[:12]}")
def test_what_it_has_found_is_refused_in_one_short_line(path: Path) -> None:
    assert check(path.parent.name, path.read_bytes())
