"""A queue of images that waits for replicas: whoever is free takes what waits, up to a bound.

No timer makes an image wait for company: batches grow by themselves as the load does.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from dsnet.runtime.session import Outputs
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
    asked: float | None  # budget in multiply-adds; None for what the server spends
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
        self._queue: deque[Waiting] = deque()
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

    async def __call__(self, pixels: np.ndarray, asked: float | None = None) -> Answer:
        """pixels: uint8 (R, R, 3). asked: a budget, of which the policy may cut its share."""
        if self._policy and self._looker is None:
            self._looker = asyncio.create_task(self._look(self._policy))
        waiting = Waiting(pixels, asked, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived += 1
        self._dispatch()
        try:
            return await waiting.answer
        finally:
            self._slowest = max(self._slowest, time.perf_counter() - waiting.since)

    def _dispatch(self) -> None:
        while self._queue and len(self._running) < self._replicas:
            task = asyncio.create_task(self._batch(self._take()))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._dispatch()

    def _take(self) -> list[Waiting]:
        """The image that waits longest, and others that run at the same budget."""
        first = self._spend(self._queue[0])
        most, taken, left = self._most(), list[Waiting](), list[Waiting]()
        while self._queue and len(taken) < most:
            waiting = self._queue.popleft()
            if waiting.answer.done():  # whoever asked has gone
                continue
            (taken if self._spend(waiting) == first else left).append(waiting)
        self._queue.extendleft(reversed(left))
        return taken

    def _spend(self, waiting: Waiting) -> float | None:
        asked = self._budget if waiting.asked is None else waiting.asked
        return self._policy.cut(asked) if self._policy else asked

    def _most(self) -> int:
        """Images of a batch: with a latency to hold, as many as take a quarter of it."""
        if not self._policy or not self._seconds:
            return MOST
        return min(MOST, max(1, math.floor(self._policy.goal.p99 / 4 / self._seconds)))

    async def _batch(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        budget = self._spend(batch[0])
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
