"""The real things that tests share: one Ray cluster and one MLflow server for the session."""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.remote import Producer

from tests.disk import small_disk
from tests.mlflow_server import USER, MLflowServer
from tests.scheduler import Scheduler, rank
from tests.toy import registries_kept

# Read by PyTorch when it is imported, and by every process that a test starts. The networks are too
# small to be worth a second thread, and threads of several processes that wait for each other spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The one block that a test compiles needs no pool of processes that each import PyTorch.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# Ray's workers step back by 15 otherwise, and wait for the tests of the other processes.
os.environ.setdefault("RAY_worker_niceness", "0")

# Ray Tune's trials in one process, which is started once: one takes all CPUs of `ray_cluster`.
ONE_AT_A_TIME = {"cpus_per_trial": 4.0}

# Machines are shared: how long one example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    config.option.loadscopereorder = False  # the longest first, not the one of most tests
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="random steps to kill a worker at")
    parser.addoption(
        "--long", action="store_true", help="also what takes minutes: nodes and drivers are lost"
    )
    parser.addoption("--away", type=float, default=0, help="seconds of an MLflow server's outage")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Commands set PyTorch's threads for their process, and here others come after them.

    One, as in the workers: how a convolution is split among threads changes its last bit.
    """
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def plugin_forgotten() -> Iterator[None]:
    """What the toys' plugin makes known is known to the tests of one file, and can be to others."""
    with registries_kept():
        yield
    sys.modules.pop("tests.toy_plugin", None)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster on this machine with token authentication; its address.

    Four CPUs whatever the machine has: the tests' workers are small, and wait for each other.
    """
    import ray

    from pipeline.cluster import ray_cluster

    yield ray_cluster.start(cpus=4)
    ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that also serves artifacts, to those with a password; its URI.

    The environment has the password until the session ends.
    """
    password = secrets.token_urlsafe()
    server = MLflowServer(tmp_path_factory.mktemp("mlflow_server"), password)
    try:
        server.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", USER)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            yield server.uri
    finally:
        server.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB, empty."""
    with small_disk(tmp_path / "disk") as folder:
        yield folder
