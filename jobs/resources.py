"""What a cluster has for workers: asked of its dashboard, of Ray, or counted on this machine."""

import json
import os
import urllib.error
import urllib.request

from dsnet.errors import InputError
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

    client = submit.connect(address)
    url = f"{client.get_address()}/api/v0/nodes?detail=1&limit=10000"
    request = urllib.request.Request(url, headers=submit.headers())
    try:
        with urllib.request.urlopen(request, timeout=submit.ANSWER_SECONDS) as answer:
            rows = json.load(answer)["data"]["result"]["result"]
            alive = [row["resources_total"] for row in rows if row["state"] == "ALIVE"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--address {address}: expected the dashboard's list of nodes, found: "
            f"{getattr(error, 'reason', error)}"
        ) from None
    return Resources(f"the cluster at {client.get_address()}", of_rows(alive))
