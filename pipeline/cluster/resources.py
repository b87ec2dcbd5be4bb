"""What a cluster has for workers, node by node: each worker has all it asks for on one node."""

from dataclasses import dataclass

from pipeline.config import Cluster


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of each node, and in all that an autoscaler may grow the cluster to."""

    where: str
    nodes: tuple[tuple[float, float], ...]
    most: tuple[float, float] = (0.0, 0.0)
    """Of nodes to come as well, as far as an autoscaler says so; it says no node's size."""

    @property
    def cpus(self) -> float:
        """In all, now."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        """In all, now."""
        return sum(gpus for _, gpus in self.nodes)

    @property
    def grows(self) -> bool:
        """Whether an autoscaler may add nodes."""
        return self.most[0] > self.cpus or self.most[1] > self.gpus

    def places(self, cluster: Cluster) -> int:
        """How many workers can run at once on the present nodes."""
        return sum(_places(node, cluster) for node in self.nodes)

    def ever_fits(self, cluster: Cluster) -> bool:
        """Whether the fewest workers fit now or, by the sums alone, when the cluster has grown."""
        if self.places(cluster) >= cluster.min_workers:
            return True
        sums = max(self.cpus, self.most[0]), max(self.gpus, self.most[1])
        return self.grows and _places(sums, cluster) >= cluster.min_workers


def of_rows(rows: list[dict[str, float]]) -> tuple[tuple[float, float], ...]:
    """The nodes of Ray's own rows, a dictionary of resources each."""
    return tuple((float(row.get("CPU", 0)), float(row.get("GPU", 0))) for row in rows)


def _places(has: tuple[float, float], cluster: Cluster) -> int:
    asked = cluster.cpus_per_worker, cluster.gpus_per_worker
    # A sum of binary fractions may be a hair below the whole number it stands for.
    return min(int(there / each + 1e-9) for there, each in zip(has, asked, strict=True) if each)
