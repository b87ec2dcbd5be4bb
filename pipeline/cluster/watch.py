"""The Ray cluster, watched from its driver: where it is gone, that is one line, and soon.

Ray's own answer is to end the process when a minute has passed, with a line about gRPC.
"""

import atexit
import os
import signal
import socket
import sys
import threading
import time

import ray

from dsnet.errors import OutageError
from pipeline.cluster.interrupts import end_by, stopped_by

_EVERY_S = 0.5
_ANSWERS_S = 5.0

OWN_S = 1.0
"""Seconds for which nothing may answer, of a cluster on this machine: it does not come back."""
LEAVES_S = 10.0
"""That a command which was stopped together with its cluster has to put away what it began."""
JOINED_S = 45.0
"""Of one that was joined, whose head may be started again elsewhere. Ray waits for 60."""


class Watch(threading.Thread):
    """Looks whether the head of the cluster, and this machine's part of it, take connections."""

    def __init__(self, patience: float) -> None:
        super().__init__(name="ray-watch", daemon=True)
        self._patience = patience
        self._status: int | None = None
        context = ray.get_runtime_context()
        self._cluster, here = context.gcs_address, context.get_node_id()
        (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
        host, _, port = self._cluster.rpartition(":")
        self._services = {
            "head": (host.strip("[]"), int(port)),
            "raylet": (node["NodeManagerAddress"], int(node["NodeManagerPort"])),
        }

    def run(self) -> None:
        last = time.monotonic()
        while self._is_ours():
            error = self.found_gone()
            if error is None:
                last = time.monotonic()
            elif self._status is not None:
                _exit(self._status)
            elif time.monotonic() - last > self._patience:
                atexit.register(_exit, 1)
                end_by(error)
                if (number := stopped_by()) is not None:
                    # Main thread in a call of Ray that takes no signals: Ray would end the process
                    # after a minute, with another status.
                    time.sleep(LEAVES_S)
                    what = "terminated" if number == signal.SIGTERM else "interrupted"
                    print(f"dsnet: {what}", file=sys.stderr)
                    _exit(128 + number)
                return
            time.sleep(_EVERY_S)

    def leave(self, status: int) -> None:
        """End this process with `status` where the cluster is gone, now or before Ray has left."""
        self._status = status
        if self._is_ours() and self.found_gone():
            _exit(status)

    def found_gone(self) -> OutageError | None:
        """What to say if it is gone at this moment; None if it answers."""
        for name, address in self._services.items():
            try:
                socket.create_connection(address, timeout=_ANSWERS_S).close()
            except TimeoutError:
                continue  # too busy to answer is not gone
            except OSError as error:
                return OutageError(
                    f"the Ray cluster is gone: its {name} at {address[0]}:{address[1]} does not "
                    f"answer ({error.strerror}); run the same command again, it goes on from the "
                    "newest checkpoint"
                )
        return None

    def _is_ours(self) -> bool:
        """Whether this process is still of that cluster."""
        return ray.is_initialized() and ray.get_runtime_context().gcs_address == self._cluster


def _exit(status: int) -> None:
    """Leave without Ray, which would wait for its cluster, and then leave with status 1."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


_watch: Watch | None = None


def watch(patience: float) -> None:
    """Watch the cluster that this process has just become part of, until it leaves."""
    global _watch
    _watch = Watch(patience)
    _watch.start()


def leave(status: int) -> None:
    """To be called last: where the cluster is gone, end this process with `status` without Ray."""
    if _watch is not None:
        _watch.leave(status)


def gone() -> OutageError | None:
    """What to say where the cluster of this process does not answer; None where it does."""
    return None if _watch is None else _watch.found_gone()
