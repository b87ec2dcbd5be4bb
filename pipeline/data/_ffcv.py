"""FFCV's parts used here, imported and built without their side effect on torch's threads.

Importing FFCV and constructing its loader both call `torch.set_num_threads`, for the whole
process: a training on the CPU would go on with one thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Put torch's number of threads back to what it was."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


with torch_threads_kept():
    from ffcv import _libffcv
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.rgb_image import IMAGE_MODES
    from ffcv.loader import Loader
    from ffcv.pipeline import PipelineSpec
    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.state import State
    from ffcv.reader import Reader
    from ffcv.traversal_order.base import TraversalOrder
    from ffcv.writer import DatasetWriter, MemoryAllocator

LIBRARY: str = _libffcv.__file__
JPEG: int = IMAGE_MODES["jpg"]

__all__ = [
    "JPEG",
    "LIBRARY",
    "AllocationQuery",
    "Compiler",
    "DatasetWriter",
    "IntField",
    "Loader",
    "MemoryAllocator",
    "Operation",
    "PipelineSpec",
    "RGBImageField",
    "Reader",
    "State",
    "TraversalOrder",
    "torch_threads_kept",
]
