"""How much memory this process may count on, and whether a file stays in it."""

from pathlib import Path

import psutil

SHARE = 0.5  # of the memory, for the file that is read; the rest is the training's
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory() -> int:
    """Bytes of the machine, or of the container where that has fewer."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    return min([int(psutil.virtual_memory().total), *(int(n) for n in limits if n.isdigit())])


def fits(size: int) -> bool:
    """Whether a file of so many bytes stays in memory once it was read."""
    return size <= SHARE * memory()
