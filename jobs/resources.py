"""What a cluster has for workers: asked of its dashboard, of Ray, or counted on this machine."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass

from dsnet.errors import InputError
from pipeline.config import Cluster


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of each node."""

    where: str
    nodes: tuple[tuple[float, float], ...]
    grows: bool = False
    """Whether an autoscaler may add others."""

    @property
    def cpus(self) -> float:
        """In all."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        """In all."""
        return sum(gpus for _, gpus in self.nodes)

    def places(self, cluster: Cluster) -> int:
        """How many workers can run at once; each is on one node."""
        return sum(_places(node, cluster) for node in self.nodes)


def of_this_machine(gpus: int) -> Resources:
    """What Ray finds when dsnet run starts it here."""
    return Resources("this machine", ((float(os.cpu_count() or 1), float(gpus)),))


def of_running_ray(address: str) -> Resources:
    """Of the cluster in RAY_ADDRESS, which this process joins for a moment."""
    import ray

    from pipeline.cluster import ray_cluster

    ray_cluster.join(address)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most, now = ray_cluster.most_resources(), ray.cluster_resources()
    finally:
        ray.shutdown()
    grows = any(most[key] > now.get(key, 0) for key in ("CPU", "GPU") if key in most)
    return Resources(f"the Ray cluster at {address}", _nodes(nodes), grows)


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
    return Resources(f"the cluster at {client.get_address()}", _nodes(alive))


def _nodes(rows: list[dict[str, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(row.get("CPU", 0)), float(row.get("GPU", 0))) for row in rows)


def _places(node: tuple[float, float], cluster: Cluster) -> int:
    asked = cluster.cpus_per_worker, cluster.gpus_per_worker
    return min(int(has / each + 1e-9) for has, each in zip(node, asked, strict=True) if each)
