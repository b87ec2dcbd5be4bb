"""Nodes that are taken away, killed, or come: a training goes on on what there is."""

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

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("asked_for")]


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs, and two nodes of so many as the test's parameter says."""
    for name in left_by_the_session():
        monkeypatch.delenv(name)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            made.add_node(num_cpus=request.param)
        yield made
    finally:
        made.shutdown()


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


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_it_saves_leaves_and_goes_on_elsewhere(
    undisturbed: Callable[[str], Version], home: Path, cluster: Cluster, tmp_path: Path
) -> None:
    expected = undisturbed("adamw")
    config = short("preempted", cluster={"max_failures": 0})
    joined = {"RAY_ADDRESS": cluster.address, "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}
    with Driver(config, Pause(tmp_path, step=14), tmp_path, **joined) as driver:
        there = driver.paused()
        notify(cluster, there.node)
        time.sleep(10)  # until Ray Train has told its workers
        driver.pause.go_on()
        deadline = time.monotonic() + 300
        while not (made := [v for v in registry.versions() if v.name == "preempted-supernet"]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Ctrl-C. The cluster was joined, and stays; what it ran for the driver does not.
        ours = workers_of(cluster)
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


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_elastic_workers_go_on_with_one_and_take_the_second_back(
    home: Path, cluster: Cluster, tmp_path: Path
) -> None:
    # Enough of them for the network not to be at chance level in the end, which is status 1.
    epochs = 10
    config = short("elastic", epochs=epochs, cluster={"workers": [1, 2]})
    pause = Pause(tmp_path, step=4)
    joined = {"RAY_ADDRESS": cluster.address, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
    with Driver(config, pause, tmp_path, seconds=0.5, **joined) as driver:
        there = driver.paused()
        (lost,) = [each for each in cluster.worker_nodes if each.node_id == there.node]
        cluster.remove_node(lost, allow_graceful=False)  # SIGKILL to all of its processes
        pause.go_on()
        driver.says("supernet: 1 of its workers go on, where 2 were")
        driver.says("goes on from")
        cluster.add_node(num_cpus=1)
        driver.says("supernet: 2 of its workers go on, where 1 were")
        driver.record.hurry()
        status, lines = driver.ends(within=300)
    assert status == 0, lines
    trained = min(registry.versions("elastic-supernet"), key=lambda version: version.version)
    assert epochs_logged(trained) == list(range(1, epochs + 1))
    steps = driver.record.steps()
    by_workers = [{n for n, attempts in found.items() if attempts} for found in steps.values()]
    assert {1} in by_workers and {2} in by_workers
    read: dict[int, list[int]] = {}
    for (epoch, _), found in steps.items():
        # However often a step was begun, and by how many workers, it was of the same images.
        attempts = {tuple(images) for each in found.values() for images in each}
        assert len(attempts) == 1
        read.setdefault(epoch, []).extend(*attempts)
    assert sorted(read) == list(range(epochs))
    for images in read.values():
        assert len(images) == len(steps) // epochs * 128
        assert len(set(images)) == len(images)
