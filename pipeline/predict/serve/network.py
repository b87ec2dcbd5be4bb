"""A replica: the model's ONNX file on one core, a batch at a time."""

import tempfile
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from dsnet.routing.target import Target
from dsnet.runtime.session import Outputs
from pipeline.predict.serve.batches import Run
from pipeline.predict.serve.prepare import exported

ATTEMPTS = 3  # at a batch whose replica died


class Network:
    """files: what `exported` reads, in Ray's object store, so that any node can run a replica."""

    def __init__(self, files: "ray.ObjectRef[dict[str, bytes]]"):
        # For as long as the replica lives: gates of other budgets are read when they are asked for.
        self._folder = tempfile.TemporaryDirectory(prefix="dsnet-serve-")
        self._exported = exported(ray.get(files), self._folder.name, threads=1)

    def __call__(self, pixels: np.ndarray, budget: float | None) -> Outputs:
        """pixels: uint8 (n, R, R, 3), budget: multiply-adds -> as `Exported`."""
        target = None if budget is None else Target(count=round(budget))
        return self._exported(pixels, target)


def steadily(network: DeploymentHandle[Any]) -> Run:
    """Run a batch on a replica; on another one where it died, since nothing is lost by that."""

    async def run(pixels: np.ndarray, budget: float | None) -> Outputs:
        for _ in range(ATTEMPTS - 1):
            try:
                return await network.remote(pixels, budget)
            except RayActorError:
                continue
        return await network.remote(pixels, budget)

    return run
