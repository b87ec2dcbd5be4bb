"""Processes of a test's own that have PyTorch, MLflow and the rest already.

To import them takes a process six seconds of a core. Here one process imports them, once for all
tests of a run, and those that tests ask for are forked from it.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

multiprocessing.set_forkserver_preload(
    ["pipeline.runner.promotion", "tests.pipeline.training.made"]
)


def start(
    function: Callable[..., None], *arguments: object, processes: int = 1
) -> torch.multiprocessing.ProcessContext:
    """Start processes that call a module's function with their number, from 0, and `arguments`.

    Their environment is this process's. `join` of what is returned raises what one has raised.
    """
    return torch.multiprocessing.start_processes(  # type: ignore[no-untyped-call,no-any-return]
        _call,
        (dict(os.environ), function, arguments),
        nprocs=processes,
        join=False,
        start_method="forkserver",
    )


def run(function: Callable[..., None], *arguments: object, processes: int = 1) -> None:
    """The same, and wait until they have ended; raises what one has raised."""
    context = start(function, *arguments, processes=processes)
    while not context.join():
        pass


def _call(
    number: int,
    environment: dict[str, str],
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(number, *arguments)
