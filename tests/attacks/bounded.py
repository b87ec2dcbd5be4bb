"""A function or a command in a process of its own, within a bound of time and memory."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch.multiprocessing

from tests import forked

MEMORY = 500_000_000  # bytes beyond what the process holds when it begins
SECONDS = 10  # of the processor: other processes of a busy machine do not count
PATIENCE = 60  # seconds by the clock, for what waits and takes none


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Its exit status, or the signal that ended it, negative: -24 beyond `SECONDS`."""
    stdout: str
    stderr: str

    @property
    def refusal(self) -> str:
        """The one line of a refusal with exit status 2."""
        assert self.status == 2, (self.status, self.stderr[-2000:])
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr[-2000:]
        assert len(lines[0]) < 2000, lines[0][:2000]
        return lines[0]


def command(*arguments: object) -> Ended:
    """Run `dsnet ARGUMENTS`."""
    return call(_command, [str(argument) for argument in arguments])


def call(function: Callable[..., object], *arguments: object) -> Ended:
    """Call a module's function in a process forked from one that has PyTorch and the rest.

    An InputError is a refusal, as the command line prints it. Beyond `MEMORY` a MemoryError is
    raised, whose traceback is no refusal.
    """
    with TemporaryDirectory() as folder:
        process = torch.multiprocessing.get_context("forkserver").Process(
            target=_bounded, args=(folder, dict(os.environ), os.getcwd(), function, arguments)
        )
        process.start()
        process.join()
        assert process.exitcode is not None
        outputs = (Path(folder, name).read_text(errors="replace") for name in ("stdout", "stderr"))
        return Ended(process.exitcode, *outputs)


def _command(arguments: list[str]) -> None:
    from jobs import cli

    sys.exit(cli.run(arguments))


def _bounded(
    folder: str,
    environment: dict[str, str],
    cwd: str,
    function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    os.chdir(cwd)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), descriptor)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    _at_most(resource.RLIMIT_DATA, held + MEMORY)
    _at_most(resource.RLIMIT_CPU, SECONDS)  # a forked process has used none
    signal.alarm(PATIENCE)
    forked._call(0, environment, _refused, (function, arguments))


def _at_most(limit: int, most: int) -> None:
    resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))


def _refused(_: int, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    from dsnet.errors import InputError

    try:
        function(*arguments)
    except InputError as error:
        print(f"dsnet: {error}", file=sys.stderr)
        sys.exit(2)
