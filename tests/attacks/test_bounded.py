"""The bound on attacks ends what goes beyond it."""

from tests.attacks.bounded import call


def _too_much() -> None:
    list(range(50_000_000))


def test_what_takes_more_memory_than_its_bound_is_no_refusal() -> None:
    ended = call(_too_much)
    assert ended.status == 1 and "MemoryError" in ended.stderr
