"""The budget under load: within bounds, down when many wait, up again when there is room."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.predict.serve.policy import HIGH, LOW, Goal, Load, Policy

GOAL = Goal(p99=0.5, most=500e6, least=125e6)
IDLE = Load(waiting=0, seconds=0.02, arrivals=0.0, slowest=0.0)
OVER = Load(waiting=100, seconds=0.02, arrivals=150.0, slowest=0.3)

loads = st.builds(
    Load,
    waiting=st.integers(0, 5000),
    seconds=st.floats(0, 10),
    arrivals=st.floats(0, 1e5),
    slowest=st.floats(0, 100),
)


def budgets(policy: Policy, load: Load, seconds: float, start: float = 0.0) -> list[float]:
    """What it spends, look by look, 20 a second, under a load that stays."""
    return [policy.look(start + look / 20, load) for look in range(round(20 * seconds))]


@given(st.lists(st.tuples(st.floats(0, 10), loads), max_size=50))
def test_it_stays_within_its_bounds_whatever_comes(looks: list[tuple[float, Load]]) -> None:
    policy, now = Policy(GOAL), 0.0
    for later, load in looks:
        now += later
        assert GOAL.least <= policy.look(now, load) <= GOAL.most


@given(loads)
def test_more_that_wait_never_raise_the_budget(load: Load) -> None:
    policy = Policy(GOAL)
    budgets(policy, OVER, 0.3)
    before = policy.budget
    if max(load.waiting * load.seconds, load.slowest) >= LOW * GOAL.p99:
        assert policy.look(100.0, load) <= before


def test_an_overload_brings_it_to_the_least_within_the_latency_to_hold() -> None:
    policy = Policy(GOAL)
    assert budgets(policy, OVER, GOAL.p99)[-1] == GOAL.least


def test_it_returns_when_the_load_is_gone() -> None:
    policy = Policy(GOAL)
    budgets(policy, OVER, 1)
    rising = budgets(policy, IDLE, 10, start=1)
    assert rising[-1] == GOAL.most
    assert rising == sorted(rising)


@given(st.floats(LOW, HIGH, exclude_max=True))
def test_between_the_two_marks_it_stays_where_it_is(pressure: float) -> None:
    policy = Policy(GOAL)
    policy.look(0.0, OVER)
    before = policy.budget
    between = Load(waiting=0, seconds=0.02, arrivals=10.0, slowest=pressure * GOAL.p99)
    assert set(budgets(policy, between, 10, start=1)) == {before}


def test_an_empty_queue_is_no_reason_to_rise_where_the_replicas_have_no_room() -> None:
    policy = Policy(GOAL)
    budgets(policy, OVER, 1)
    busy = Load(waiting=0, seconds=0.02, arrivals=40.0, slowest=0.05)  # 80 % of their time
    assert set(budgets(policy, busy, 10, start=1)) == {GOAL.least}


@pytest.mark.parametrize("bounds", [(0.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.0, 1.0, 0.0)])
def test_bounds_that_are_none_are_refused(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected p99"):
        Goal(*bounds)


def test_a_queue_at_three_times_the_full_load_is_answered_in_time_and_the_budget_returns() -> None:
    """A queue in virtual time, whose images cost 2 ms beside what their multiply-adds do."""
    policy, step = Policy(GOAL), 0.005
    full = 0.002 + 0.030
    waiting: list[float] = []  # arrivals
    waits, spent, free, due = [], [], 0.0, 0.0
    for tick in count():
        now = tick * step
        if now > 30:
            break
        rate = (3.0 if 5 <= now < 15 else 0.5) / full
        while due <= now:
            waiting.append(due)
            due += 1 / rate
        each = 0.002 + 0.030 * policy.budget / GOAL.most
        while waiting and free <= now:
            free = max(free, now) + each
            waits.append((waiting[0], free - waiting.pop(0)))
        if tick % 10 == 0:
            slowest = max((wait for _, wait in waits[-5:]), default=0.0)
            spent.append((now, policy.look(now, Load(len(waiting), each, rate, slowest))))
    assert max(wait for _, wait in waits) < GOAL.p99
    assert all(budget == GOAL.most for now, budget in spent if now < 5 or now > 28)
    assert min(budget for _, budget in spent) < 0.4 * GOAL.most
