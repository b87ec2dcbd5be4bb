"""A queue of images that waits for replicas: whoever is free takes what waits, up to a bound.

No timer makes an image wait for company: batches grow by themselves as the load does. Clients that
wait take turns, so that one who sends many images does not make the others wait for all of them.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from dsnet.runtime.session import Outputs
from pipeline.predict.serve.fair import FairQueue
from pipeline.predict.serve.policy import Load, Policy

MOST = 16  # images of a batch; the backend takes as many at a time
LOOKS = 20  # of the policy, per second
SMOOTH_S = 1.0  # over which arrivals are averaged

Run = Callable[[np.ndarray, float | None], Awaitable[Outputs]]
"""pixels uint8 (n, R, R, 3), budget in multiply-adds or None -> what they are answered."""


@dataclass(frozen=True)
class Answer:
    """One image's: logits (1, classes), widths and madds (1,), and the budget it was run at."""

    logits: np.ndarray
    widths: np.ndarray
    madds: np.ndarray
    budget: float | None


@dataclass(frozen=True)
class Waiting:
    pixels: np.ndarray  # uint8 (R, R, 3)
    answer: "asyncio.Future[Answer]"
    since: float = field(default_factory=time.perf_counter)


class Batches:
    """
    run: one batch on one replica. replicas: how many run at once. budget: multiply-adds for those
    who ask for none; None for as the model was tuned. policy: lowers it, and what is asked for,
    under load. told: size and seconds of every batch, for the metrics.
    """

    def __init__(
        self,
        run: Run,
        replicas: int = 1,
        budget: float | None = None,
        policy: Policy | None = None,
        told: Callable[[int, float], object] = lambda size, seconds: None,
    ):
        self._run, self._budget, self._policy, self._told = run, budget, policy, told
        self._replicas = replicas
        self._queue = FairQueue[Waiting]()  # of a kind are those that ask for one budget
        self._running: set[asyncio.Task[None]] = set()
        self._seconds = 0.0  # of one image on one replica, smoothed
        self._arrived, self._arrivals, self._slowest = 0, 0.0, 0.0
        self._looker: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Images that no replica has begun."""
        return len(self._queue)

    @property
    def budget(self) -> float | None:
        """Multiply-adds for who asks for none, at this moment; None for as the model was tuned."""
        return self._policy.cut(self._budget) if self._policy else self._budget

    async def __call__(
        self, pixels: np.ndarray, asked: float | None = None, client: str = ""
    ) -> Answer:
        """pixels: uint8 (R, R, 3). asked: a budget in multiply-adds, of which the policy may cut
        its share; None for what the server spends."""
        if self._policy and self._looker is None:
            self._looker = asyncio.create_task(self._look(self._policy))
        waiting = Waiting(pixels, asyncio.get_running_loop().create_future())
        self._queue.put(client, waiting, asked)
        self._arrived += 1
        self._dispatch()
        try:
            return await waiting.answer
        finally:
            self._slowest = max(self._slowest, time.perf_counter() - waiting.since)

    def _dispatch(self) -> None:
        while len(self._running) < self._replicas:
            batch, budget = self._take()
            if not batch:
                return
            task = asyncio.create_task(self._batch(batch, budget))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._dispatch()

    def _take(self) -> tuple[list[Waiting], float | None]:
        """The image whose turn it is, others that run at the same budget, and that budget."""
        taken, budget = list[Waiting](), self._budget

        def fits(asked: float | None) -> bool:
            return not taken or self._spend(asked) == budget

        while len(taken) < self._most() and (turn := self._queue.take(fits)):
            client, asked, waiting = turn
            if waiting.answer.done():  # whoever asked has gone
                continue
            self._queue.charge(client, 1)
            taken.append(waiting)
            budget = self._spend(asked)
        return taken, budget

    def _spend(self, asked: float | None) -> float | None:
        wanted = self._budget if asked is None else asked
        return self._policy.cut(wanted) if self._policy else wanted

    def _most(self) -> int:
        """Images of a batch: with a latency to hold, as many as take a quarter of it."""
        if not self._policy or not self._seconds:
            return MOST
        return min(MOST, max(1, math.floor(self._policy.goal.p99 / 4 / self._seconds)))

    async def _batch(self, batch: list[Waiting], budget: float | None) -> None:
        start = time.perf_counter()
        try:
            logits, widths, madds = await self._run(
                np.stack([each.pixels for each in batch]), budget
            )
        except Exception as error:
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        seconds = time.perf_counter() - start
        self._told(len(batch), seconds)
        self._seconds += (seconds / len(batch) - self._seconds) * (0.3 if self._seconds else 1)
        for index, each in enumerate(batch):
            if not each.answer.done():
                rows = slice(index, index + 1)
                each.answer.set_result(Answer(logits[rows], widths[rows], madds[rows], budget))

    async def _look(self, policy: Policy) -> None:
        while True:
            await asyncio.sleep(1 / LOOKS)
            self._arrivals += (self._arrived * LOOKS - self._arrivals) / (LOOKS * SMOOTH_S)
            seconds = self._seconds / self._replicas
            before = policy.budget
            after = policy.look(
                time.perf_counter(), Load(len(self), seconds, self._arrivals, self._slowest)
            )
            if after > before:  # until a batch at the new budget has told
                self._seconds *= after / before
            self._arrived, self._slowest = 0, 0.0
