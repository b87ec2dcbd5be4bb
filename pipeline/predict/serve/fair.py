"""What is scarce, shared between clients: none takes all of it, or makes the others wait.

`client` is text here: the address that requests come from.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv6Address, ip_address
from itertools import count
from typing import Any, Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 4096  # clients that have nothing waiting, and what they had


def client_at(address: str) -> str:
    """Who sends from an address; of IPv6 the first 64 bits, as one client has all below them."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or parsed.exploded[:19])


class Full(Exception):
    """There is no room for more."""

    def __init__(self) -> None:
        super().__init__("too many requests wait for an answer; try again later")


class Room:
    """So much of something. A client may hold as much of it as it leaves free for others."""

    def __init__(self, most: int):
        self._free = most
        self._held = Counter[str]()

    @contextmanager
    def share(self, client: str) -> Iterator[Callable[[int], None]]:
        """Gives what takes so much more until this is left; it raises Full for too much."""
        held = 0

        def take(amount: int) -> None:
            nonlocal held
            if self._held[client] + amount > self._free - amount:
                raise Full
            held += amount
            self._free -= amount
            self._held[client] += amount

        try:
            yield take
        finally:
            self._free += held
            self._held[client] -= held
            if not self._held[client]:
                del self._held[client]


class FairQueue(Generic[T]):
    """The client that had least comes first, and of its own what came first.

    What a client had is what it was charged. One that comes new begins with what the client had
    whose turn it was last, so that nobody saves up turns by waiting.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, Hashable], deque[tuple[int, T]]] = {}
        self._had: dict[str, float] = {}
        self._last = 0.0
        self._order = count()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, client: str, item: T, kind: Hashable = None) -> None:
        """kind: what `take` can ask for."""
        self._had[client] = max(self._had.get(client, 0.0), self._last)
        self._waiting.setdefault((client, kind), deque()).append((next(self._order), item))

    def take(self, fits: Callable[[Any], bool] = lambda kind: True) -> tuple[str, Any, T] | None:
        """Whose turn it is, and for what, with its kind; None where nothing that waits fits."""
        turns = [
            (self._had[client], queue[0][0], client, kind)
            for (client, kind), queue in self._waiting.items()
            if fits(kind)
        ]
        if not turns:
            return None
        self._last, _, client, kind = min(turns, key=lambda turn: turn[:2])
        queue = self._waiting[client, kind]
        _, item = queue.popleft()
        if not queue:
            del self._waiting[client, kind]
        return client, kind, item

    def charge(self, client: str, amount: float) -> None:
        """Note what a client had."""
        self._had[client] = max(self._had.get(client, 0.0), self._last) + amount
        if len(self._had) > REMEMBERED + len(self._waiting):
            waiting = {client for client, _ in self._waiting}
            self._had = {each: had for each, had in self._had.items() if each in waiting}


class Threads:
    """Threads that work for the client for which they were busy least."""

    def __init__(self, threads: int, name: str):
        self._pool = ThreadPoolExecutor(threads, name)
        self._queue = FairQueue[tuple["asyncio.Future[Any]", Callable[[], Any]]]()
        self._free = threads
        self._working: set[asyncio.Task[None]] = set()

    async def __call__(self, client: str, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, when it was the client's turn."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(client, (answer, partial(function, *arguments)))
        self._dispatch()
        return await answer

    def _dispatch(self) -> None:
        while self._free and (turn := self._queue.take()):
            client, _, (answer, function) = turn
            if answer.done():  # whoever asked has gone
                continue
            self._free -= 1
            # A task of its own: one who goes meanwhile does not free the thread by that.
            task = asyncio.create_task(self._work(client, answer, function))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(
        self, client: str, answer: "asyncio.Future[Any]", function: Callable[[], Any]
    ) -> None:
        start = time.perf_counter()
        done = asyncio.get_running_loop().run_in_executor(self._pool, function)
        await asyncio.wait([done])
        self._queue.charge(client, time.perf_counter() - start)
        self._free += 1
        self._dispatch()
        error = done.exception()
        if answer.done():
            return
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(error)
