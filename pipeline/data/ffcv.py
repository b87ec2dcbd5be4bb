"""FFCV's parts used here, with what is wrong in them mended on the way in.

FFCV 1.0.2, measured on two cores:
- importing it calls `torch.set_num_threads(1)` for the whole process: a training on the CPU would
  go on with one thread;
- importing it takes 2.7 s longer than it needs, to compile a typed dictionary of two constants;
- its memory manager, which its own loader uses (`dsnet bench loader`), makes numba's one type
  uint8[::1] read-only in place, for the whole process; from then on numba does not find the
  functions again that it has compiled for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba.typed
import numpy as np

from pipeline.data.threads import torch_threads


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
    from ffcv import _libffcv
    from ffcv.fields import IntField, RGBImageField
    from ffcv.memory_managers import OSCacheManager
    from ffcv.pipeline.compiler import Compiler
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


LIBRARY: str = _libffcv.__file__

__all__ = [
    "LIBRARY",
    "DatasetWriter",
    "IntField",
    "MemoryAllocator",
    "OSCacheManager",
    "RGBImageField",
    "Reader",
]
