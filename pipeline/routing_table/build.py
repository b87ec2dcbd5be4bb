"""Building a table: each worker takes some of the missing shards and writes every one whole."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from dsnet import DSNet
from dsnet.routing import RoutingTable, build_rows, join
from pipeline.data.augment.recipes import get_recipe
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Beton
from pipeline.routing_table.description import Description
from pipeline.routing_table.shards import Shard, write_shard


def build(
    model: DSNet,
    beton: Beton,
    indices: np.ndarray,
    folder: Path,
    description: Description,
    shards: Sequence[Shard],
    *,
    batch_size: int,
    threads: int = 1,
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Build `shards` of a table. `progress(rows)` is told after each batch how many rows it has.

    model: in eval mode, on the device to run on. indices: the table's images, as described. What a
    row holds depends on neither the shards' order nor the batch size.
    """
    device = next(model.parameters()).device
    done = 0
    for shard in shards:
        options = LoaderOptions(
            batch_size=batch_size,
            recipe=get_recipe(description.recipe),
            train=description.views > 0,
            resolution=description.resolution,
            seed=description.seed,
            indices=indices[shard.first : shard.end],
            threads=threads,
            exact=True,
        )
        loader = Loader(beton, options)
        parts: list[RoutingTable] = []
        with loader:
            for batch in loader.epoch(0, view=shard.view):
                inputs, targets = batch.pair(model, device)
                rows = build_rows(
                    model, inputs, targets, batch.indices, shard.view, labels=batch.labels
                )
                parts.append(_on_cpu(rows))
                done += len(batch.labels)
                progress(done)
        write_shard(folder, shard, description, join(parts))


def _on_cpu(table: RoutingTable) -> RoutingTable:
    moved = {
        name: value.cpu() for name, value in vars(table).items() if isinstance(value, torch.Tensor)
    }
    features = tuple(features.cpu() for features in table.features)
    measures = {name: values.cpu() for name, values in table.measures.items()}
    return RoutingTable(**{**vars(table), **moved, "features": features, "measures": measures})
