"""Threads held to cores, so that no two of them share one while another is idle."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Hold the main thread to the first core, and all others that there are to the next ones.

    threads: cores in use; with one, or on a system without affinities, nothing is held. Threads
    that are started within share the main one's core, so everything should have started before.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if min(threads, len(cores)) < 2:
        yield
        return
    main = threading.main_thread().native_id
    existing = [int(name) for name in os.listdir("/proc/self/task")]
    for thread in existing:
        _hold(thread, cores[:1] if thread == main else cores[1:threads])
    try:
        yield
    finally:
        for thread in existing:
            _hold(thread, cores)


def _hold(thread: int, cores: list[int]) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.sched_setaffinity(thread, cores)
