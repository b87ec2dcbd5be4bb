"""FFCV's parts used here, with what is wrong in them mended on the way in.

FFCV 1.0.2, measured on two cores:
- importing it, and constructing its loader, calls `torch.set_num_threads(1)` for the whole
  process: a training on the CPU would go on with one thread;
- importing it takes 2.7 s longer than it needs, to compile a typed dictionary of two constants;
- its memory manager spends 2.4 s and 0.6 GB on Python sets for the 1.28 million pictures of
  ImageNet, which only its other cache and its quasi-random order ever read;
- its memory manager makes numba's one type uint8[::1] read-only in place, for the whole process;
  from then on numba does not find the functions again that it has compiled for it.
"""

import logging
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba.typed
import numpy as np

from pipeline.data.memory import fits, memory
from pipeline.data.threads import torch_threads

logger = logging.getLogger(__name__)


@contextmanager
def _plain_dictionaries() -> Iterator[None]:
    """numba.typed.Dict is the plain one: FFCV's table of image modes is read by Python alone."""
    typed = numba.typed.Dict
    numba.typed.Dict = dict
    try:
        yield
    finally:
        numba.typed.Dict = typed


with torch_threads(), _plain_dictionaries():
    import ffcv.loader.loader
    from ffcv import _libffcv
    from ffcv.fields import IntField, RGBImageField
    from ffcv.loader import Loader
    from ffcv.memory_managers import OSCacheManager
    from ffcv.memory_managers.os_cache import OSCacheContext
    from ffcv.pipeline import PipelineSpec
    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.state import State
    from ffcv.reader import Reader
    from ffcv.writer import DatasetWriter, MemoryAllocator


def _compile_reader(self: OSCacheManager) -> Callable[[int, tuple[np.ndarray, ...]], np.ndarray]:
    """FFCV's own, with numba left to find the types."""

    def read(address: int, state: tuple[np.ndarray, ...]) -> np.ndarray:
        file, addresses, sizes = state
        return file[address : address + sizes[np.searchsorted(addresses, address)]]

    reader: Callable[[int, tuple[np.ndarray, ...]], np.ndarray] = Compiler.compile(read)
    return reader


OSCacheManager.compile_reader = _compile_reader


class MappedFile(OSCacheManager):
    """FFCV's memory-mapped file, without the tables that nobody reads, whatever its size.

    Mapped at once: what is opened and verified together stays so, should another take its name.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        order = np.argsort(reader.alloc_table["ptr"], kind="stable")
        self.ptrs = reader.alloc_table["ptr"][order]
        self.sizes = reader.alloc_table["size"][order]
        self.context = OSCacheContext(self)
        self.context.__enter__()
        self._pictures = reader.alloc_table
        self._fits = fits(len(self.context.mmap))
        if not self._fits:
            logger.info(
                "%s: %.1f GB, more than half of the memory here (%.1f GB): what comes next is read "
                "picture by picture, and the rest is left on disk",
                reader.file_name,
                len(self.context.mmap) / 1e9,
                memory() / 1e9,
            )
            # Around a picture lie others, which a shuffled epoch has no use for now.
            self.context.mmap.base.madvise(mmap.MADV_RANDOM)

    def expect(self, samples: np.ndarray) -> None:
        """Have the kernel read these samples' pictures ahead, where the file does not fit memory.

        FFCV's own cache would hold every 8 MiB page from its first picture's batch to its last
        one's: in a shuffled epoch, nearly the whole file, of which memory has no room.
        """
        if self._fits:
            return
        for picture in self._pictures[samples]:
            start = int(picture["ptr"]) // mmap.PAGESIZE * mmap.PAGESIZE
            length = int(picture["ptr"]) + int(picture["size"]) - start
            self.context.mmap.base.madvise(mmap.MADV_WILLNEED, start, length)


ffcv.loader.loader.OSCacheManager = MappedFile

LIBRARY: str = _libffcv.__file__

__all__ = [
    "LIBRARY",
    "AllocationQuery",
    "Compiler",
    "DatasetWriter",
    "IntField",
    "Loader",
    "MappedFile",
    "MemoryAllocator",
    "OSCacheManager",
    "Operation",
    "PipelineSpec",
    "RGBImageField",
    "Reader",
    "State",
]
