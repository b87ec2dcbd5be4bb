"""A routing table in Ray's object store: put there once, all processes of a node see one memory.

Trials of a sweep import this, and nothing of what builds and reads tables.
"""

import warnings
from typing import Any

import torch

from dsnet.routing import RoutingTable

Arrays = dict[str, Any]
"""A table in parts: `task`, `paths`, and by name the arrays of its columns, `features_G` for gate G
and `measures_NAME` for a measure; `confidences` and `evidence` only where there are any.

The task is pickled by its class, so that a trial's process imports the module it is written in.
"""


def from_arrays(arrays: Arrays) -> RoutingTable:
    """The table over these arrays, nothing copied."""

    def tensor(name: str) -> torch.Tensor:
        with warnings.catch_warnings():
            # What lies in the object store is read-only, and so is what trains on it.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(arrays[name])

    task, paths = arrays["task"], arrays["paths"]
    return RoutingTable(
        task=task,
        paths=paths,
        features=tuple(tensor(f"features_{gate}") for gate in range(len(paths.routes))),
        losses=tensor("losses"),
        measures={m.name: tensor(f"measures_{m.name}") for m in task.measures},
        confidences=tensor("confidences") if "confidences" in arrays else None,
        labels=tensor("labels"),
        samples=tensor("samples"),
        views=tensor("views"),
        evidence=tensor("evidence") if "evidence" in arrays else None,
    )
