"""Ctrl-C and SIGTERM: the same in every moment of a run, whatever Ray puts in their place.

`ray.init` answers SIGTERM by an exit in the middle of its own work, which ends in an abort. Ray
Train and Ray Tune answer Ctrl-C, and leave their answers behind: one between two stages goes to a
training that is over, and nothing happens.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever started this process, a scheduler perhaps, wants it gone."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM raise KeyboardInterrupt; what leaves after SIGTERM is Terminated.

    To be entered after `ray.init`, by the main thread; in another it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt  # Ray passes on this one alone, and as itself

    with handlers_kept():
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        try:
            yield
        except KeyboardInterrupt:
            if signal.SIGTERM in received:
                raise Terminated from None
            raise


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put back afterwards what answers Ctrl-C and SIGTERM: Ray Tune leaves its own behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
