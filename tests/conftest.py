"""The real things that tests share: one Ray cluster for the session."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray cluster on this machine with a dashboard and token authentication; its address.

    Four CPUs whatever the machine has: the tests' workers are small, and wait for each other.
    """
    import ray

    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    context = ray.init(num_cpus=4, dashboard_host="127.0.0.1", logging_level="WARNING")
    yield context.address_info["gcs_address"]
    ray.shutdown()
