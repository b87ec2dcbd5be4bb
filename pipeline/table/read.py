"""Reading a table, and handing it to other processes without a copy for each."""

import warnings
from pathlib import Path

import numpy as np
import torch

from dsnet.errors import InputError
from dsnet.routing import RoutingTable
from pipeline.table.description import Description, from_json, read_description, refuse_others
from pipeline.table.shards import read_shard, shards_of, unpack

Arrays = dict[str, np.ndarray | str]


def read_table(folder: Path, wanted: Description | None = None) -> RoutingTable:
    """The table in `folder`, in memory: view by view, the images in order.

    Raises InputError if there is none, if it is not the wanted one, or if a shard is missing or
    damaged.
    """
    return from_arrays(read_arrays(folder, wanted))


def read_arrays(folder: Path, wanted: Description | None = None) -> Arrays:
    """`read_table` as plain arrays, for Ray's object store: put there once, all processes of a
    node see the same memory. Raises InputError as `read_table`.
    """
    if wanted is not None:
        refuse_others(folder, wanted)
    description = read_description(folder)
    rows, paths, number = description.rows, description.paths, np.dtype(description.precision)
    table: dict[str, np.ndarray] = {
        "samples": np.empty(rows, np.int64),
        "views": np.empty(rows, np.int64),
        "labels": np.empty(rows, np.int64),
        "losses": np.empty((rows, len(paths)), number),
        "confidences": np.empty((rows, len(paths)), np.float16),
        "top1": np.empty((rows, len(paths)), bool),
        "top5": np.empty((rows, len(paths)), bool),
    }
    for gate, size in enumerate(description.features):
        table[f"features_{gate}"] = np.empty((rows, paths.prefixes(gate), size), number)
    first = 0
    for shard in shards_of(description):
        columns = read_shard(folder, shard, description)
        if columns is None:
            raise InputError(
                f"{folder}: expected a whole routing table, found {shard.name} missing or damaged; "
                "build it again, which keeps the other shards"
            )
        here = slice(first, first + len(shard))
        first += len(shard)
        for name in ("sample", "view", "label"):
            table[name + "s"][here] = columns[name]
        for name in ("top1", "top5"):
            table[name][here] = unpack(columns[name], len(paths))
        for name in ("losses", "confidences"):
            table[name][here] = columns[name]
        for gate in range(len(description.features)):
            target = table[f"features_{gate}"][here]
            target[:] = columns[f"features_{gate}"].reshape(target.shape)
    return {**table, "description": description.to_json()}


def from_arrays(arrays: Arrays) -> RoutingTable:
    """The table over what `read_arrays` gave, nothing copied."""
    description = from_json(str(arrays["description"]))

    def tensor(name: str) -> torch.Tensor:
        with warnings.catch_warnings():
            # What lies in the object store is read-only, and so is what trains on it.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(arrays[name])

    return RoutingTable(
        paths=description.paths,
        features=tuple(tensor(f"features_{gate}") for gate in range(len(description.routes))),
        losses=tensor("losses"),
        confidences=tensor("confidences"),
        top1=tensor("top1"),
        top5=tensor("top5"),
        labels=tensor("labels"),
        samples=tensor("samples"),
        views=tensor("views"),
    )
