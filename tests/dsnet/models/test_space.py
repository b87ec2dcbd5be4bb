"""The routing space: which sub-networks there are, for any table of stages."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsnet import InputError, RoutingSpace, Width
from dsnet.models.architecture import Architecture, Stage
from dsnet.models.create import architecture


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any valid table: up to three gates, each followed by stages with as many widths."""

    def row(widths: int, gated: bool) -> Stage:
        steps = draw(st.lists(st.integers(1, 9), min_size=widths, max_size=widths))
        return Stage(tuple(itertools.accumulate(steps)), gated=gated)

    gates = draw(st.integers(0, 3))
    # Before the first gate the number of widths is free, without gates it is the choice.
    common = draw(st.integers(1, 4))
    first = st.just(common) if gates == 0 else st.integers(1, 3)
    stem = row(draw(first), gated=False)
    stages = [row(draw(first), gated=False) for _ in range(draw(st.integers(gates == 0, 2)))]
    for _ in range(gates):
        options = draw(st.integers(1, 4))
        stages.append(row(options, gated=True))
        stages.extend(row(options, gated=False) for _ in range(draw(st.integers(0, 1))))
    found = Architecture("any", "mbnet", stem, tuple(stages))
    if gates and draw(st.booleans()):
        options_of = RoutingSpace(found).options
        subsets = (st.sets(st.integers(0, n - 1), min_size=1) for n in options_of)
        found = found.with_routes([sorted(draw(subset)) for subset in subsets])
    return found


def segments(found: Architecture) -> list[int]:
    """The gate that each row of the table listens to, 0 for none before it."""
    return list(itertools.accumulate([0, *(stage.gated for stage in found.stages)]))


@given(architectures())
def test_there_is_one_sub_network_for_each_path_through_the_gates(found: Architecture) -> None:
    space = RoutingSpace(found)
    assert len(space) == math.prod(space.options) == len(set(space.paths))
    assert space.paths == sorted(space.paths)
    assert [space.index_of(path) for path in space.paths] == list(range(len(space)))


@given(architectures())
def test_a_sub_network_takes_the_entry_its_gate_picked_and_the_first_before_any_gate(
    found: Architecture,
) -> None:
    space = RoutingSpace(found)
    rows = (found.stem, *found.stages)
    for width, path in zip(space, space.paths, strict=True):
        entries = (0, *path) if found.gates else path
        expected = [row.channels[entries[s]] for row, s in zip(rows, segments(found), strict=True)]
        assert width == Width(tuple(expected))


@given(architectures())
def test_the_slimmest_comes_first_and_nothing_is_wider_than_the_largest(
    found: Architecture,
) -> None:
    space = RoutingSpace(found)
    for width in space:
        columns = zip(space[0].channels, width.channels, space.largest.channels, strict=True)
        assert all(low <= channels <= high for low, channels, high in columns)
    assert space.largest.channels == tuple(r.channels[-1] for r in (found.stem, *found.stages))
    assert (space[-1] == space.largest) or found.gates


@given(architectures())
def test_routes_are_the_sub_networks_that_every_gate_may_choose(found: Architecture) -> None:
    space = RoutingSpace(found)
    if not found.gates:
        assert space.routes == ()
        return
    allowed = found.routes or [range(n) for n in space.options]
    assert space.routes == tuple(
        index
        for index, path in enumerate(space.paths)
        if all(entry in choices for entry, choices in zip(path, allowed, strict=True))
    )


@given(architectures())
def test_an_architecture_survives_being_written_down(found: Architecture) -> None:
    assert Architecture.from_dict(found.to_dict()) == found


def test_ds_mbnet_has_fourteen_sub_networks_that_share_their_first_stages() -> None:
    space = RoutingSpace(architecture("ds_mbnet"))
    assert len(space) == 14
    assert space[0] == Width((16, 32, 48, 96, 224, 736))
    assert space[13] == Width((16, 32, 48, 96, 640, 1152))
    assert space.largest == Width((24, 88, 168, 264, 640, 1152))
    assert space.routes == tuple(range(14))


def test_gates_may_be_restricted_together_or_each_by_itself() -> None:
    table = architecture("ds_resnet50").with_gates([1, 3])
    assert RoutingSpace(table.with_routes([0, 2])).routes == (0, 2, 8, 10)
    assert RoutingSpace(table.with_routes([[0, 2], [1]])).routes == (1, 9)
    assert RoutingSpace(table.with_routes(None)).routes == tuple(range(16))


def test_stages_under_one_gate_need_as_many_widths_as_each_other() -> None:
    table = Architecture(
        "uneven", "mbnet", Stage((8,)), (Stage((8, 16), gated=True), Stage((8, 16, 24)))
    )
    with pytest.raises(InputError, match=r"channel lists of one length, found lengths \[2, 3\]"):
        RoutingSpace(table)


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ([14], r"within 0 to 13, found \[14\]"),
        ([-1, 0], r"within 0 to 13, found \[-1, 0\]"),
        ([2, 1], r"rise strictly .* found \[2, 1\]"),
        ([1, 1], r"rise strictly .* found \[1, 1\]"),
        ([[0], [1]], "for each of 1 gates"),
        ([[]], "rise strictly"),
    ],
)
def test_routes_that_are_not_there_are_refused(routes: list[int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        RoutingSpace(architecture("ds_mbnet").with_routes(routes))


def test_routes_without_a_gate_are_refused() -> None:
    with pytest.raises(InputError, match="routes are for gates, and ds_resnet50 has none"):
        architecture("ds_resnet50").with_routes([0, 1])


@pytest.mark.parametrize("gates", [[4], [-1], [1, 1], [2, 1]])
def test_gates_in_stages_that_are_not_there_are_refused(gates: list[int]) -> None:
    with pytest.raises(InputError, match="gates must be rising indices of stages, 0 to 3"):
        architecture("ds_resnet50").with_gates(gates)


@pytest.mark.parametrize("width", [-1, 14, Width((16, 32)), Width((16, 32, 48, 96, 225, 736))])
def test_a_width_that_is_not_there_is_refused(width: int | Width) -> None:
    with pytest.raises(InputError, match="width must"):
        RoutingSpace(architecture("ds_mbnet")).resolve(width)
