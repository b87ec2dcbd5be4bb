"""Progressive resolution: from the first side to the network's own, which the last epoch has."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import config_from_dict
from pipeline.stages.supernet import resolution_of_epoch


@given(
    st.integers(8, 300),
    st.integers(8, 300),
    st.integers(1, 200),
    st.floats(0, 1, exclude_min=True),
)
def test_it_rises_from_the_first_to_the_full_one(
    one: int, other: int, epochs: int, until: float
) -> None:
    first, full = sorted((one, other))
    section = {"epochs": epochs, "warmup_epochs": 0}
    section |= {"resolution_from": first, "resolution_until": until}
    config = config_from_dict({"data": {"resolution": full}, "supernet": section})
    sides = [resolution_of_epoch(config, epoch) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert sides[0] == (first if epochs > 1 and until * epochs > 0 else full)
    assert sides[-1] == full
    assert all(side == full for epoch, side in enumerate(sides) if epoch >= until * epochs)
    for epoch, side in enumerate(sides):
        line = min(full, first + (full - first) * epoch / (until * epochs))
        assert abs(side - line) <= 4 or side == full


def test_without_it_every_epoch_has_the_full_resolution() -> None:
    config = config_from_dict({"data": {"resolution": 64}})
    assert {resolution_of_epoch(config, epoch) for epoch in range(150)} == {64}
