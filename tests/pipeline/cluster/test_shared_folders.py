"""A node that does not share the storage or the betons is named before anything is trained."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.pipeline.chain.faults import left_by_the_session

ASK = """
import json, sys, time
from pathlib import Path
import ray
from dsnet import InputError
from pipeline.cluster.shared_folders import check_shared

ray.init(sys.argv[1])
deadline = time.monotonic() + 60
while len(ray.nodes()) < 2:
    assert time.monotonic() < deadline, "the second node has not come"
    time.sleep(0.2)
said = []
for storage, betons in json.loads(sys.argv[2]):
    try:
        check_shared(Path(storage), Path(betons))
        said.append("")
    except InputError as error:
        said.append(str(error))
print(json.dumps(said))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes on this machine, the second of which has a folder `own` of its own."""
    (tmp_path / "own").mkdir()
    hidden = f'mount -t tmpfs tmpfs "{tmp_path}/own" && exec "$@"'
    with pytest.MonkeyPatch.context() as patch:
        for name in left_by_the_session():
            patch.delenv(name)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        ray = Path(sys.executable).with_name("ray")
        start = [ray, "start", f"--address={cluster.address}", "--num-cpus=1", "--block"]
        node = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", hidden, "sh", *start], stdout=subprocess.DEVNULL
        )
        try:
            yield cluster
        finally:
            node.terminate()
            node.wait()
            cluster.shutdown()


def test_what_one_node_has_for_itself_is_found(cluster: Cluster, tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    shared.mkdir()
    for folder in (own, shared):
        (folder / "digits-train.beton").write_bytes(b"as large")
    asked = [(own, shared), (shared, own), (shared, shared)]
    done = subprocess.run(
        [sys.executable, "-c", ASK, cluster.address, json.dumps(asked, default=str)],
        check=True,
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    storage, betons, nothing = json.loads(done.stdout.splitlines()[-1])
    assert "cluster.storage: expected every node of the cluster to share it" in storage
    assert f"does not see {own} as it is here" in storage
    assert "data.dir: expected every node" in betons and "digits-train.beton" in betons
    assert nothing == ""
    assert not list(shared.glob(".seen*")) and not list(own.glob(".seen*"))

    # And the doctor, asked about all nodes, names the one.
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "doctor", "--nodes", "--json"],
        env=os.environ | {"RAY_ADDRESS": cluster.address, "DSNET_HOME": str(own)},
        stdout=subprocess.PIPE,
        text=True,
    )
    parts = [each for each in json.loads(done.stdout)["parts"] if "node" in each["name"]]
    assert done.returncode == 1
    assert sorted(each["state"] for each in parts) == ["missing", "ok"]
    assert sum("does not see DSNET_HOME" in each["advice"] for each in parts) == 1
    assert not list(own.glob(".seen*"))
