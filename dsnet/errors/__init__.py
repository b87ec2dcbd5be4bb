"""What can go wrong that is no bug: wrong input, a training that diverges, what is out of reach."""

from collections.abc import Iterator


class InputError(ValueError):
    """A wrong file, field or value given by the user.

    The message is one line that names what was wrong, what was expected and what was found.
    The command line prints that line and exits with status 2.
    """


class DivergenceError(ArithmeticError):
    """A loss or a weight is not finite any more.

    The message is one line that names what and when. Every worker of a training raises it alike.
    The command line prints that line and exits with status 1.
    """


class OutageError(Exception):
    """Something that the work needs has given out: a server, the room on a disk.

    The message is one line that names what, and says what to do. The same command goes on when it
    is back. The command line prints that line and exits with status 1.
    """


class DiskFullError(OutageError):
    """A disk has no room for what was to be written; the message names the folder."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, then what it was raised for, as Python says it and as Ray does."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        found = pending.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        # Ray wraps what a task raised (`cause`), and what the workers of a training raised.
        pending += [getattr(found, "cause", None), found.__cause__]
        failures = getattr(found, "worker_failures", None)
        pending += failures.values() if isinstance(failures, dict) else ()
