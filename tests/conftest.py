"""The real things that tests share: one Ray cluster and one MLflow server for the session."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.mlflow_server import MLflowServer

# Machines are shared: how long one example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster on this machine with a dashboard and token authentication; its address.

    Four CPUs whatever the machine has: the tests' workers are small, and wait for each other.
    """
    import ray

    from pipeline.cluster import ray_cluster

    yield ray_cluster.start(cpus=4)
    ray.shutdown()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that also serves artifacts; its URI."""
    server = MLflowServer(tmp_path_factory.mktemp("mlflow_server"))
    try:
        server.start()
        yield server.uri
    finally:
        server.stop()
