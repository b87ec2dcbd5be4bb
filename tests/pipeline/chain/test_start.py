"""What a chain starts and imports: no more than it has use for."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.chain import ChainResult
from pipeline.store import tracking
from tests.pipeline.chain.conftest import configured

pytestmark = pytest.mark.usefixtures("ray_cluster")

RUN = """
import json, logging, sys
from jobs import cli
logging.basicConfig(level=logging.INFO)
status = cli.run(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules)}))
"""


def test_a_finished_chain_does_without_ray_ffcv_and_numba_and_makes_no_mlflow_run(
    result: ChainResult, home: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(configured().yaml())
    client = tracking.client()
    experiments = [each.experiment_id for each in client.search_experiments()]
    before = len(client.search_runs(experiments))
    done = subprocess.run(
        [sys.executable, "-c", RUN, "run", "--config", str(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == 0
    for version in result.versions:
        assert version.uri in done.stderr
    assert not {"ray", "ffcv", "numba", "cv2", "sklearn"} & set(found["modules"])
    assert len(client.search_runs(experiments)) == before


def test_the_controller_of_the_workers_has_not_imported_pytorch(result: ChainResult) -> None:
    ours = [
        process
        for process in psutil.Process().children(recursive=True)
        if "ray::TrainController" in " ".join(process.cmdline())
    ]
    assert ours
    for process in ours:
        assert not any("libtorch" in each.path for each in process.memory_maps())
