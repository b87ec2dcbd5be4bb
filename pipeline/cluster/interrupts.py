"""Ctrl-C, SIGTERM, a lost cluster: the same in every moment of a run, whatever Ray makes of them.

`ray.init` exits at SIGTERM in the middle of its work, which ends in an abort. Ray
Train and Ray Tune answer Ctrl-C, and leave their answers behind: one between two stages goes to a
training that is over, and nothing happens.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_causes: list[int | Exception] = []
"""Why the block that is `interruptible` at the moment is to end: signals, errors of `end_by`."""
_within = threading.Event()
_received: list[int] = []
"""Signals that the present command has received."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler, or whatever else started this process, ends it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM raise KeyboardInterrupt; what leaves after SIGTERM is Terminated.

    And so does `end_by` from another thread; what leaves is then its error. What came first counts:
    a signal to the process group ends the Ray cluster too, and the error is then that it is gone.

    To be entered after `ray.init`, by the main thread; in another it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        _causes.append(number)
        if isinstance(_causes[0], int):
            _received.append(number)
        raise KeyboardInterrupt  # Ray passes on this one alone, and as itself

    with handlers_kept():
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        _within.set()
        try:
            yield
        except BaseException:  # of a cluster that ends at the same time come errors of any kind
            if not _causes:
                raise
            if isinstance(_causes[0], Exception):
                raise _causes[0] from None
            raise (Terminated if _causes[0] == signal.SIGTERM else KeyboardInterrupt) from None
        finally:
            _within.clear()
            _causes.clear()


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated, so that what a command has begun is put away.

    For a whole command; within it `interruptible` is for what Ray runs. In another thread than the
    main one it does nothing.
    """

    def terminate(number: int, _: FrameType | None) -> None:
        _received.append(number)
        raise Terminated

    _received.clear()
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
        yield


def stopped_by() -> int | None:
    """The signal that the present command, which is `terminable`, received first; None for none."""
    return _received[0] if _received else None


def end_by(error: Exception) -> None:
    """From another thread: end what is `interruptible` at the moment, if anything is."""
    if _within.is_set():
        _causes.append(error)
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
