"""Processes that do the same thing at once, as the workers of a training do."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType

import torch
import torch.distributed as dist

Works = Mapping[str, Callable[[], object]]
"""What a worker can be asked to do, by name."""


class Team:
    """Workers with a process group over gloo, in a `with`; `call` has all of them do one thing.

    make: called in each worker once the group is there, for what it can do. It is pickled.
    """

    def __init__(self, size: int, threads: int, make: Callable[[], Works]):
        self.size, self.threads, self.make = size, threads, make

    def __enter__(self) -> "Team":
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        rendezvous = os.path.join(self._folder.name, "rendezvous")
        self._ends: list[Connection] = []
        self._processes = []
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_worker,
                args=(theirs, rank, self.size, self.threads, rendezvous, self.make),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        return self

    def call(self, name: str) -> list[object]:
        """Return when every worker has done it: what each returned, by rank.

        Raises EOFError if a worker has ended.
        """
        for end in self._ends:
            end.send(name)
        return [end.recv() for end in self._ends]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            if error is not None:
                process.terminate()
            process.join()
        self._folder.cleanup()


def _worker(
    end: Connection, rank: int, size: int, threads: int, rendezvous: str, make: Callable[[], Works]
) -> None:
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    works = make()
    while True:
        try:
            name = end.recv()
        except EOFError:  # the benchmark is over
            break
        end.send(works[name]())
    dist.destroy_process_group()
