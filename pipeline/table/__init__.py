"""Routing tables on disk: described, built in shards by any number of workers, read with Arrow."""

from pipeline.shared_table import from_arrays
from pipeline.table.build import build, pending
from pipeline.table.description import Description, describe
from pipeline.table.read import read_arrays, read_table

__all__ = [
    "Description",
    "build",
    "describe",
    "from_arrays",
    "pending",
    "read_arrays",
    "read_table",
]
