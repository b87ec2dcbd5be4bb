"""Ctrl-C, SIGTERM, a lost cluster: the same in every moment of a run, whatever Ray makes of them.

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

_reasons: list[Exception] = []
"""Why the block that is `interruptible` at the moment is to end, where it is no signal."""
_within = threading.Event()


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever started this process, a scheduler perhaps, wants it gone."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM raise KeyboardInterrupt; what leaves after SIGTERM is Terminated.

    And so does `end_by` from another thread; what leaves is then its error.

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
        _within.set()
        try:
            yield
        except KeyboardInterrupt:
            if _reasons:
                raise _reasons[0] from None
            if signal.SIGTERM in received:
                raise Terminated from None
            raise
        finally:
            _within.clear()
            _reasons.clear()


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated, so that what a command has begun is put away.

    For a whole command; within it `interruptible` is for what Ray runs. In another thread than the
    main one it does nothing.
    """

    def terminate(number: int, _: FrameType | None) -> None:
        raise Terminated

    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
        yield


def end_by(error: Exception) -> None:
    """From another thread: end what is `interruptible` at the moment, if anything is."""
    if _within.is_set():
        _reasons.append(error)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


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
