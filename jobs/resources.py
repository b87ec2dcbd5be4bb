"""What a cluster has for workers: asked of its dashboard, of Ray, or counted on this machine."""

import os
from typing import Any

from pipeline.cluster.resources import Resources, of_rows


def of_this_machine(gpus: int) -> Resources:
    """What Ray finds when dsnet run starts it here."""
    return Resources("this machine", ((float(os.cpu_count() or 1), float(gpus)),))


def of_running_ray(address: str) -> Resources:
    """Of the cluster in RAY_ADDRESS, which this process joins for a moment."""
    import ray

    from pipeline.cluster import ray_cluster

    ray_cluster.join(address)
    try:
        return ray_cluster.running_resources(f"the Ray cluster at {address}")
    finally:
        ray.shutdown()


def of_dashboard(address: str) -> Resources:
    """Of the cluster whose dashboard answers at `address`. Raises InputError as `connect`."""
    from jobs import submit

    def alive(answer: Any) -> list[dict[str, float]]:
        rows = answer["data"]["result"]["result"]
        return [row["resources_total"] for row in rows if row["state"] == "ALIVE"]

    url = submit.connect(address).get_address()
    nodes = submit.answer_of(url, "/api/v0/nodes?detail=1&limit=10000", alive)
    return Resources(f"the cluster at {url}", of_rows(nodes))
