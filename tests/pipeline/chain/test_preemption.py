"""A node that is about to be taken away: the training saves, leaves, and goes on on another."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from pipeline.store import registry
from pipeline.store.registry import Version
from tests.pipeline.chain.faults import (
    Driver,
    epochs_logged,
    left_by_the_session,
    none_left,
    runs_called,
    same,
    short,
)
from tests.pipeline.chain.pauses import Pause

pytestmark = pytest.mark.slow


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs, and two nodes of which each holds the workers."""
    for name in left_by_the_session():
        monkeypatch.delenv(name)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


def notify(cluster: Cluster, node: str) -> None:
    """Say that a node will be gone in ten minutes: what `ray drain-node` does."""
    from ray._raylet import GcsClient

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int(1000 * (time.time() + 600))
    accepted, why = GcsClient(address=cluster.address).drain_node(node, reason, "a test", deadline)
    assert accepted, why


def workers_of(cluster: Cluster) -> list[psutil.Process]:
    """The processes of a cluster that work for its drivers."""
    nodes = [
        each
        for each in psutil.Process().children()
        # The one of the node that was drained has ended, and nobody has asked how.
        if each.status() != psutil.STATUS_ZOMBIE
        and each.name() == "raylet"
        and cluster.address in " ".join(each.cmdline())
    ]
    below = [each for node in nodes for each in node.children()]
    return [each for each in below if each.name().startswith("ray::RayTrain")]


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Two nodes and two starts of workers take minutes of a small machine."""
    if not request.config.getoption("drain"):
        pytest.skip("takes minutes: --drain runs it")


def test_it_saves_leaves_and_goes_on_elsewhere(
    undisturbed: Callable[[str], Version], home: Path, two_nodes: Cluster, tmp_path: Path
) -> None:
    expected = undisturbed("adamw")
    config = short("preempted", cluster={"max_failures": 0})
    joined = {"RAY_ADDRESS": two_nodes.address, "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}
    with Driver(config, Pause(tmp_path, step=14), tmp_path, **joined) as driver:
        there = driver.paused()
        notify(two_nodes, there.node)
        time.sleep(10)  # until Ray Train has told its workers
        driver.pause.go_on()
        deadline = time.monotonic() + 300
        while not (made := [v for v in registry.versions() if v.name == "preempted-supernet"]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Ctrl-C. The cluster was joined, and stays; what it ran for the driver does not.
        ours = workers_of(two_nodes)
        driver.signal(signal.SIGINT)
        status, lines = driver.ends(within=30)
        none_left(ours)
    assert ours
    assert (status, lines[-1]) == (128 + signal.SIGINT, "dsnet: interrupted")
    assert "KILLED" in {run.info.status for run in runs_called("preempted")}
    assert any("supernet: a node is being taken away" in line for line in lines)
    assert any("goes on from" in line for line in lines)
    assert same(made[0], expected)
    assert epochs_logged(made[0]) == [1, 2, 3]
