"""A beton's bytes in memory, and which of them the kernel is to read ahead."""

import logging
import mmap
from pathlib import Path

import numpy as np
import psutil

from pipeline.data.ffcv import Reader

logger = logging.getLogger(__name__)

SHARE = 0.5  # of the memory, for the file that is read; the rest is the training's
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class MappedFile:
    """The file that `reader` has opened, whatever its size.

    FFCV's own memory manager spends 2.4 s and 0.6 GB on tables that nobody reads for the 1.28
    million pictures of ImageNet, and makes numba's one type uint8[::1] read-only for the process.
    """

    def __init__(self, reader: Reader) -> None:
        # Mapped at once: what is opened and verified together stays so, should another take its
        # name.
        self.content: np.memmap = np.memmap(reader.file_name, np.uint8, "r")
        self._places = reader.alloc_table
        ascending = np.argsort(self._places["ptr"], kind="stable")
        self.addresses: np.ndarray = self._places["ptr"][ascending]
        self.sizes: np.ndarray = self._places["size"][ascending]
        self.fits = len(self.content) <= SHARE * memory()
        if not self.fits:
            logger.info(
                "%s: %.1f GB, more than half of the memory here (%.1f GB): what comes next is read "
                "picture by picture, and the rest is left on disk",
                reader.file_name,
                len(self.content) / 1e9,
                memory() / 1e9,
            )
            # Around a picture lie others, which a shuffled epoch has no use for now.
            self._advise(mmap.MADV_RANDOM)

    def expect(self, samples: np.ndarray) -> None:
        """Have the kernel read these samples' pictures ahead, where the file does not fit memory.

        FFCV's other cache would hold every 8 MiB page from its first picture's batch to its last
        one's: in a shuffled epoch, nearly the whole file, of which memory has no room.
        """
        if self.fits:
            return
        for picture in self._places[samples]:
            start = int(picture["ptr"]) // mmap.PAGESIZE * mmap.PAGESIZE
            self._advise(
                mmap.MADV_WILLNEED, start, int(picture["ptr"]) + int(picture["size"]) - start
            )

    def _advise(self, *advice: int) -> None:
        memory_map = self.content.base
        assert isinstance(memory_map, mmap.mmap)
        memory_map.madvise(*advice)


def memory() -> int:
    """Bytes of the machine, or of the container where that has fewer."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    return min([int(psutil.virtual_memory().total), *(int(n) for n in limits if n.isdigit())])
