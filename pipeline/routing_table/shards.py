"""Shards: a table's rows in Parquet files, each of which is whole or counts as not there."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsnet.errors import InputError
from dsnet.io.files import atomic_file
from dsnet.routing import RoutingTable
from dsnet.tasks.registry import find
from pipeline.routing_table.description import Description, claim, read_description

logger = logging.getLogger(__name__)

_TABLE, _SHARD = b"dsnet.routing_table", b"dsnet.shard"


@dataclass(frozen=True)
class Shard:
    """Some images of one view: `first` to `end` of the table's images, in their order."""

    view: int
    first: int
    end: int

    @property
    def name(self) -> str:
        """File name, the same however the table is built."""
        return f"view-{self.view:03}-{self.first:09}.parquet"

    def __len__(self) -> int:
        return self.end - self.first


def shards_of(description: Description) -> list[Shard]:
    """All of a table's shards, in the order of its rows."""
    return [
        Shard(view, first, min(first + description.shard_rows, description.images))
        for view in range(max(description.views, 1))
        for first in range(0, description.images, description.shard_rows)
    ]


def pending(folder: Path, description: Description) -> list[Shard]:
    """The shards that are still to be built; `folder` becomes the table's place.

    Raises InputError, naming what differs, if the folder holds a table of another supernet, other
    data or other settings.
    """
    claim(folder, description)
    return [s for s in shards_of(description) if read_shard(folder, s, description) is None]


def built_rows(folder: Path) -> tuple[int, int] | None:
    """How many rows the shards in `folder` have, and the whole table; None where there is none.

    Whether they are as they were written is not looked at: see `read_shard`.
    """
    try:
        description = read_description(folder)
    except InputError:
        return None
    shards = shards_of(description)
    return sum(len(s) for s in shards if (folder / s.name).exists()), description.rows


def schema_of(shard: Shard, description: Description) -> pa.Schema:
    """Columns of a shard, and in the metadata what it is of.

    sample: the image's number in its beton. features_G: gate G's reduced feature after each joint
    choice of the gates before it, one after the other. losses: the task's loss of each path.
    confidences: how sure each path is of its answer, where the task tells. evidence: what each
    path's answer tells of itself, one path after the other, where it does. Then what the task
    measures, by name: of a share, such as top1, bit p says whether path p has it; of anything else
    there is a float32 for each path. Raises InputError for a task that is not registered.
    """
    number = pa.float16() if description.precision == "float16" else pa.float32()
    paths = description.paths
    features = [
        pa.field(f"features_{gate}", pa.list_(number, paths.prefixes(gate) * size))
        for gate, size in enumerate(description.features)
    ]
    of_paths = [pa.field("losses", pa.list_(number, len(paths)))]
    if description.confidences:
        of_paths.append(pa.field("confidences", pa.list_(pa.float16(), len(paths))))
    if description.evidence:
        of_paths.append(pa.field("evidence", pa.list_(number, len(paths) * description.evidence)))
    for measure in find(description.task).measures:
        kind = pa.uint64() if measure.share else pa.list_(pa.float32(), len(paths))
        of_paths.append(pa.field(measure.name, kind))
    return pa.schema(
        [
            pa.field("sample", pa.int64()),
            pa.field("view", pa.int16()),
            pa.field("label", pa.int32()),
            *features,
            *of_paths,
        ],
        metadata={_TABLE: description.to_json().encode(), _SHARD: shard.name.encode()},
    )


def write_shard(folder: Path, shard: Shard, description: Description, table: RoutingTable) -> None:
    """Write a shard's rows, whole or not at all."""
    schema = schema_of(shard, description)
    columns = {
        "sample": table.samples.numpy(),
        "view": table.views.numpy(),
        "label": table.labels.numpy(),
        "losses": table.losses.numpy(),
    }
    columns |= {f"features_{gate}": x.numpy() for gate, x in enumerate(table.features)}
    if table.confidences is not None:
        columns["confidences"] = table.confidences.numpy()
    if table.evidence is not None:
        columns["evidence"] = table.evidence.numpy()
    for measure in table.task.measures:
        values = table.measures[measure.name].numpy()
        columns[measure.name] = _bits(values) if measure.share else values
    arrays = [_column(columns[field.name], field.type) for field in schema]
    with atomic_file(folder / shard.name) as temporary:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            temporary,
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )


def read_shard(
    folder: Path, shard: Shard, description: Description
) -> dict[str, np.ndarray] | None:
    """A shard's columns by name, (rows, …); None if it is not there, or not whole.

    Whole means: the file's end is there, every page matches its checksum, and the rows are those
    of this table, as many as they should be.
    """
    path = folder / shard.name
    if not path.exists():
        return None
    schema = schema_of(shard, description)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s is damaged and will be built again: %s", path, error)
        return None
    same = table.schema.equals(schema) and table.schema.metadata == schema.metadata
    if not same or len(table) != len(shard):
        logger.warning("%s holds other rows than it should and will be built again", path)
        return None
    return {name: _rows(table[name]) for name in schema.names}


def unpack(bits: np.ndarray, paths: int) -> np.ndarray:
    """uint64 (n,) -> bool (n, paths)."""
    return (bits[:, None] >> np.arange(paths, dtype=np.uint64) & np.uint64(1)).astype(bool)


def _bits(flags: np.ndarray) -> np.ndarray:
    """bool (n, paths) -> uint64 (n,)."""
    weights = np.uint64(1) << np.arange(flags.shape[1], dtype=np.uint64)
    packed: np.ndarray = (flags * weights).sum(1, dtype=np.uint64)
    return packed


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values.astype(kind.to_pandas_dtype()))
    number = kind.value_type.to_pandas_dtype()
    # What is beyond float16, or infinite, is as far out as the farthest that it holds.
    largest = np.finfo(number).max
    flat = np.clip(values.reshape(-1), -largest, largest).astype(number)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size)


def _rows(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat: np.ndarray = array.flatten().to_numpy(zero_copy_only=True)
        return flat.reshape(len(array), column.type.list_size)
    values: np.ndarray = array.to_numpy(zero_copy_only=True)
    return values
