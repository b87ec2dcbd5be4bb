"""Processes that do the same thing at once, as the workers of a training do."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

Works = Mapping[str, Callable[[], object]]
"""What a worker can be asked to do, by name."""
Call = Callable[[str], list[object]]
"""Have all workers do something: what each returned, by rank. Raises EOFError if one has ended."""


@contextmanager
def team(size: int, threads: int, make: Callable[[], Works]) -> Iterator[Call]:
    """Workers with a process group over gloo.

    make: called in each worker once it is in the group, for what it can do. It is pickled.
    """
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = os.path.join(folder, "rendezvous")
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, size, threads, rendezvous, make)
            process = context.Process(target=_worker, args=arguments, daemon=True)
            process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)

        def call(name: str) -> list[object]:
            for end in ends:
                end.send(name)
            return [end.recv() for end in ends]

        try:
            yield call
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        finally:
            for end in ends:
                end.close()
            for process in processes:
                process.join()


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
