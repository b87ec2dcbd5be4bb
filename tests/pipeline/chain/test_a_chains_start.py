"""What a chain starts and imports: no more than it has use for.

The first tests of these: later ones register more, and let the workers go.
"""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.chain import ChainResult
from pipeline.store import tracking

pytestmark = pytest.mark.usefixtures("ray_cluster")

RUN = """
import json, logging, sys
from jobs import cli
logging.basicConfig(level=logging.INFO)
status = cli.run(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps({"status": status, "modules": sorted(sys.modules)}))
"""


def test_a_finished_chain_does_without_ray_ffcv_and_numba_and_makes_no_mlflow_run(
    result: ChainResult, home: Path, tmp_path: Path
) -> None:
    client = tracking.client()
    experiments = [each.experiment_id for each in client.search_experiments()]
    before = len(client.search_runs(experiments))
    told = tmp_path / "told.json"
    made = f"{result.version.name}/{result.version.version}"
    command = [sys.executable, "-c", RUN, str(told), "run", "--from-version", made, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(told.read_text())
    assert found["status"] == 0
    for version in result.versions:
        assert version.uri in done.stderr
    document = json.loads(done.stdout)
    assert document["version"]["name"] == result.version.name
    assert [row["name"] for row in document["rows"]] == [row.name for row in result.rows]
    listed = {(v["name"], v["version"]) for v in document["versions"]}
    assert listed >= {(v.name, v.version) for v in result.versions}
    assert not {"ray", "ffcv", "numba", "cv2", "sklearn"} & set(found["modules"])
    assert len(client.search_runs(experiments)) == before


def test_beside_the_workers_ray_train_has_no_process_that_a_chain_has_no_use_for(
    result: ChainResult,
) -> None:
    """Of Ray Data, or to ask a dashboard whether the controller is alive; nor is there a dashboard.

    What is named here is what an upgrade of Ray may add to.
    """
    names = {name for name in map(_name, psutil.Process().children(recursive=True)) if name}
    train = {"ray::TrainController", "ray::RayTrainWorker", "ray::SynchronizationActor"}
    assert names & {"ray::DatasetManager", "ray::PlacementGroupCleaner"} == set()
    assert train <= names
    assert not {name for name in names if name.startswith("ray-dashboard")}


def _name(process: psutil.Process) -> str:
    """The first word of the title of a process of Ray, without its method; "" of all others."""
    try:
        title = " ".join(process.cmdline()[:1])
    except psutil.Error:
        return ""
    return title.split(".")[0].split()[0] if title.startswith("ray") else ""


def test_the_controller_of_the_workers_has_not_imported_pytorch(result: ChainResult) -> None:
    ours = [
        process
        for process in psutil.Process().children(recursive=True)
        if "ray::TrainController" in " ".join(process.cmdline())
    ]
    assert ours
    for process in ours:
        assert not any("libtorch" in each.path for each in process.memory_maps())
