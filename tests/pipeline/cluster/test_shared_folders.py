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
import json, os, sys, time
from pathlib import Path
import ray
from dsnet import InputError
from jobs.doctor_nodes import examine_nodes
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
os.environ["DSNET_HOME"] = json.loads(sys.argv[2])[0][0]
print(json.dumps([*said, [part.advice for part in examine_nodes()]]))
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
    storage, betons, nothing, advice = json.loads(done.stdout.splitlines()[-1])
    assert "cluster.storage: expected every node of the cluster to share it" in storage
    assert f"does not see {own} as it is here" in storage
    assert "data.dir: expected every node" in betons and "digits-train.beton" in betons
    assert nothing == ""
    assert not list(shared.glob(".seen*")) and not list(own.glob(".seen*"))
    # And the doctor, asked about all nodes, names the one.
    assert sorted(map(bool, advice)) == [False, True]
    assert "does not see DSNET_HOME" in max(advice)
