"""What a node says of itself, and what is made of it."""

from dataclasses import replace

import pytest

from jobs.doctor import GIB
from jobs.doctor_nodes import PACKAGES, Here, Seen, judged, question

GOOD = Seen(
    python="3.11",
    versions=dict.fromkeys(PACKAGES, "1.0"),
    sees=True,
    free=100 * GIB,
    clock=1000.0,
    gpus=8,
    driver=True,
    interfaces=("lo", "eth0", "docker0"),
    nccl={"NCCL_DEBUG": "WARN"},
)
NODE = {"NodeManagerAddress": "10.0.0.5", "Resources": {"CPU": 16.0, "GPU": 8.0}}
HERE = Here(GOOD, took=2.0, several=True)


def test_a_node_that_has_all_is_well() -> None:
    part = judged(NODE, GOOD, HERE)
    assert (part.state, part.advice) == ("ok", "")
    assert (part.name, part.detail) == ("node 10.0.0.5", "16 CPUs, 8 GPUs, 100.0 GiB free")


@pytest.mark.parametrize(
    ("fields", "state", "advice"),
    [
        ({"python": "3.12"}, "missing", "Python 3.12 here and 3.11 where this runs"),
        ({"versions": GOOD.versions | {"ffcv": ""}}, "missing", "ffcv missing (not 1.0)"),
        ({"versions": GOOD.versions | {"torch": "2.0"}}, "missing", "torch 2.0 (not 1.0)"),
        ({"sees": False}, "missing", "does not see DSNET_HOME"),
        ({"free": GIB // 2}, "missing", "free some space"),
        ({"driver": False, "gpus": 0}, "missing", "no NVIDIA driver"),
        ({"free": 5 * GIB}, "warning", "little space is left"),
        ({"gpus": 9}, "warning", "9 GPUs are there, of which Ray was given 8"),
        ({"clock": 1030.0}, "warning", "its clock is about 30 s off"),
        ({"clock": 990.0}, "warning", "its clock is about 10 s off"),
        ({"interfaces": ("lo", "eth0", "ib0")}, "warning", "NCCL_SOCKET_IFNAME"),
        ({"nccl": {}}, "warning", "NCCL_DEBUG differ from where this runs"),
    ],
)
def test_what_a_node_lacks_is_said(fields: dict[str, object], state: str, advice: str) -> None:
    part = judged(NODE, replace(GOOD, **fields), HERE)  # type: ignore[arg-type]
    assert part.state == state
    assert advice in part.advice


def test_networks_are_of_no_concern_to_one_node_of_gpus() -> None:
    one = replace(HERE, several=False)
    assert judged(NODE, replace(GOOD, interfaces=("eth0", "ib0"), nccl={}), one).state == "ok"


def test_a_node_that_does_not_answer_is_missing() -> None:
    assert judged(NODE, None, HERE).state == "missing"


def test_this_process_answers_for_itself() -> None:
    seen = Seen(**question()("/no/such/folder/mark", PACKAGES))
    assert not seen.sees
    assert seen.versions["torch"] and seen.free > 0
