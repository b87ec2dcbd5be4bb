"""The least that Ray Train takes: a cluster, two workers that do nothing, and their end."""

import tempfile

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import RunConfig, ScalingConfig

from pipeline.cluster import ray_cluster


def main() -> None:
    """Run it once."""
    ray_cluster.start()
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            nothing,
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=folder),  # type: ignore[arg-type]
        ).fit()
    ray.shutdown()


def nothing() -> None:
    """What a worker does."""


if __name__ == "__main__":
    main()
