"""Large images, decoded in a process that gets what the others leave of the cores.

A thread would do for Pillow, which frees the interpreter as it decodes. But the scheduler shares
cores between threads of one priority: whoever sends a bomb would slow everybody's answers. And a
thread of low priority that is descheduled with the interpreter's lock holds up the whole server.
"""

import os
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from dsnet.errors import InputError
from pipeline.predict.serve.requests import Refusal, pixels_of


class LargeImages:
    """`pixels_of`, elsewhere. For one thread. The process ends with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def __call__(self, image: bytes, place: str, resolution: int, crop: float) -> np.ndarray:
        """uint8 (R, R, 3). Raises InputError as `pixels_of` does, and Refusal if the process ends,
        for which the next call starts another."""
        pipe = self._pipe or self._start()
        try:
            pipe.send((image, place, resolution, crop))
            pixels, error = pipe.recv()
        except (EOFError, OSError):
            self._pipe = None
            raise Refusal(503, f"{place}: decoding it took too much; send a smaller one") from None
        if error is not None:
            raise InputError(error)
        return pixels

    @property
    def pid(self) -> int:
        """Of the process that decodes. Raises RuntimeError before the first call."""
        if self._process is None:
            raise RuntimeError("no image was decoded yet")
        return self._process.pid

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._pipe = ours  # once there is a process behind it
        return ours


def main(pipe: Connection) -> None:
    """Decode what comes, until the other end is closed."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        pixels, error = None, None
        try:
            pixels = pixels_of(*arguments)
        except InputError as wrong:
            error = str(wrong)
        pipe.send((pixels, error))


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
