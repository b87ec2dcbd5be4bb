"""Reading a table back, whole or not at all."""

from pathlib import Path

import numpy as np

from dsnet.errors import InputError
from dsnet.routing import RoutingTable
from dsnet.tasks.registry import find
from pipeline.routing_table.arrays import Arrays, from_arrays
from pipeline.routing_table.description import Description, read_description, refuse_others
from pipeline.routing_table.shards import read_shard, shards_of, unpack


def read_table(folder: Path, wanted: Description | None = None) -> RoutingTable:
    """The table in `folder`, in memory: view by view, the images in order.

    Raises InputError if there is none, if it is not the wanted one, if its task is not registered,
    or if a shard is missing or damaged.
    """
    return from_arrays(read_arrays(folder, wanted))


def read_arrays(folder: Path, wanted: Description | None = None) -> Arrays:
    """`read_table` as plain arrays, for Ray's object store. Raises InputError as `read_table`."""
    if wanted is not None:
        refuse_others(folder, wanted)
    description = read_description(folder)
    task = find(description.task)
    rows, paths, number = description.rows, description.paths, np.dtype(description.precision)
    table: dict[str, np.ndarray] = {
        "samples": np.empty(rows, np.int64),
        "views": np.empty(rows, np.int64),
        "labels": np.empty(rows, np.int64),
        "losses": np.empty((rows, len(paths)), number),
    }
    if description.confidences:
        table["confidences"] = np.empty((rows, len(paths)), np.float16)
    if description.evidence:
        table["evidence"] = np.empty((rows, len(paths), description.evidence), number)
    for measure in task.measures:
        kind = bool if measure.share else np.float32
        table[f"measures_{measure.name}"] = np.empty((rows, len(paths)), kind)
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
        table["losses"][here] = columns["losses"]
        if description.confidences:
            table["confidences"][here] = columns["confidences"]
        if description.evidence:
            evidence = table["evidence"][here]
            evidence[:] = columns["evidence"].reshape(evidence.shape)
        for measure in task.measures:
            values = columns[measure.name]
            table[f"measures_{measure.name}"][here] = (
                unpack(values, len(paths)) if measure.share else values
            )
        for gate in range(len(description.features)):
            target = table[f"features_{gate}"][here]
            target[:] = columns[f"features_{gate}"].reshape(target.shape)
    return {**table, "task": task, "paths": paths}
