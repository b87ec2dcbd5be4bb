"""A driver with a Ray cluster of its own that is killed, or told to stop, or loses it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.store import registry
from pipeline.store.registry import Version
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain.faults import (
    EPOCHS,
    Driver,
    epochs_logged,
    none_left,
    run_folder,
    runs_called,
    same,
    short,
    supernet_of,
)
from tests.pipeline.chain.pauses import Pause

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("asked_for")]


def dumped(lines: list[str]) -> list[str]:
    """The driver's own lines that are no words; Ray passes on those of its processes too."""
    own = [line for line in lines if not line.startswith("(")]
    return [line for line in own if "Traceback" in line or "*** SIG" in line]


def resumed(config: Config, workers: WorkerGroup, expected: Version) -> None:
    """On another cluster it ends as if nothing had happened."""
    version = supernet_of(config, workers)
    assert same(version, expected)
    assert epochs_logged(version) == list(range(1, EPOCHS + 1))


def test_one_that_is_killed_leaves_no_process_and_loses_nothing(
    undisturbed: Callable[[str], Version],
    workers: WorkerGroup,
    tmp_path: Path,
) -> None:
    config = short("killed")
    with Driver(config, Pause(tmp_path, step=8), tmp_path) as driver:
        driver.paused()
        processes = driver.processes()
        driver.signal(signal.SIGKILL)
        none_left(processes)
    # Its newest checkpoint is as a lost cable leaves it, altered.
    newest = max(run_folder(config).glob("checkpoint_*")) / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    resumed(config, workers, undisturbed("adamw"))


def test_one_that_is_told_to_stop_and_one_whose_cluster_is_lost_go_on_too(
    undisturbed: Callable[[str], Version], workers: WorkerGroup, tmp_path: Path
) -> None:
    """Each goes on where the one before was; nothing is lost, and no process left."""
    config = short("lost")
    with Driver(config, Pause(tmp_path, step=14), tmp_path) as driver:
        driver.paused()
        processes = driver.processes()
        driver.signal(signal.SIGTERM)
        status, lines = driver.ends(within=30)
        none_left(processes)
    assert (status, lines[-1]) == (128 + signal.SIGTERM, "dsnet: terminated")
    assert not dumped(lines)
    runs = runs_called("lost")
    assert len(runs) == 2  # the chain's and its stage's
    assert {run.info.status for run in runs} == {"KILLED"}
    assert not [v for v in registry.versions() if v.name.startswith("lost")]

    with Driver(config, Pause(tmp_path, step=21), tmp_path) as driver:
        driver.paused()
        processes = driver.processes()
        (head,) = (each for each in processes if each.name() == "gcs_server")
        head.kill()
        status, lines = driver.ends(within=30)
        none_left(processes)
    assert status == 1
    assert lines[-1].startswith("dsnet: the Ray cluster is gone")
    assert not dumped(lines)
    resumed(config, workers, undisturbed("adamw"))


def test_one_that_is_stopped_together_with_its_cluster_says_that_it_was_stopped(
    workers: WorkerGroup, tmp_path: Path
) -> None:
    """As `timeout` and systemd do: Ray's processes get the signal too."""
    with Driver(short("group"), Pause(tmp_path, step=8), tmp_path) as driver:
        driver.paused()
        processes = driver.processes()
        driver.signal(signal.SIGTERM, group=True)
        status, lines = driver.ends(within=30)
        none_left(processes)
    assert (status, lines[-1]) == (128 + signal.SIGTERM, "dsnet: terminated")
    assert not dumped(lines)


def test_a_sweep_that_is_stopped_together_with_its_cluster_says_that_it_was_stopped(
    home: Path, tmp_path: Path
) -> None:
    """In the middle of its trials, whose answer to a signal would be Ray Tune's."""
    sections = {"table": {"steps": 10**6}, "sweep": {"cpus_per_trial": 1.0}}
    config = short("swept", gate={"method": "table"}, **sections)
    never = Pause(tmp_path, step=10**6)
    command = ("sweep", "--targets", "0.5")
    with Driver(config, never, tmp_path, command=command) as driver:
        deadline = time.monotonic() + 300
        while not (trials := [p for p in driver.processes() if "ImplicitFunc" in p.name()]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        processes = driver.processes()
        driver.signal(signal.SIGTERM, group=True)
        status, lines = driver.ends(within=30)
        none_left([*processes, *trials])
    assert (status, lines[-1]) == (128 + signal.SIGTERM, "dsnet: terminated")
    assert not dumped(lines)
