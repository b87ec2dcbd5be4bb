"""The real things that tests share: one Ray cluster for the session."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster on this machine with a dashboard and token authentication; its address.

    Four CPUs whatever the machine has: the tests' workers are small, and wait for each other.
    """
    import ray

    from pipeline import cluster

    yield cluster.start(cpus=4)
    ray.shutdown()
