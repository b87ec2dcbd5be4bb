"""An open-loop load: requests leave when they are due, whether earlier ones are answered or not.

A process of its own, `python -m jobs.bench.serving_load URL FOLDER SCHEDULE`. FOLDER has encoded
pictures; SCHEDULE is JSON, [[requests per second, seconds], …]. Writes a JSON list of `Sent`.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

WAITS_S = 120.0  # for an answer


@dataclass(frozen=True)
class Sent:
    """What became of a request."""

    due: float
    """Seconds from the start."""
    seconds: float
    """From then to its answer; a generator that is late counts as latency."""
    status: int
    madds: int = 0
    """That the image took; 0 without an answer (status is not 200)."""
    budget: float = 0.0
    """Share of the widest route's multiply-adds that the server spent on average."""


def moments(schedule: Sequence[tuple[float, float]], seed: int = 0) -> Iterator[float]:
    """When requests are due: a Poisson process of the rates of `schedule`."""
    randomness = random.Random(seed)
    start = 0.0
    for rate, seconds in schedule:
        moment = start + randomness.expovariate(rate)
        while moment < start + seconds:
            yield moment
            moment += randomness.expovariate(rate)
        start += seconds


async def load(
    url: str, pictures: Sequence[bytes], schedule: Sequence[tuple[float, float]]
) -> list[Sent]:
    """Send what is due and wait for every answer."""
    timeout = aiohttp.ClientTimeout(total=WAITS_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        begin = time.perf_counter()
        tasks = []
        for index, due in enumerate(moments(schedule)):
            await asyncio.sleep(begin + due - time.perf_counter())
            picture = pictures[index % len(pictures)]
            tasks.append(asyncio.create_task(_send(session, url, picture, begin, due)))
        return await asyncio.gather(*tasks)


async def _send(
    session: aiohttp.ClientSession, url: str, picture: bytes, begin: float, due: float
) -> Sent:
    try:
        async with session.post(url, data=picture) as response:
            document = await response.json(content_type=None)
            seconds = time.perf_counter() - begin - due
            if response.status != 200:
                return Sent(due, seconds, response.status)
            budget = float(response.headers["dsnet-budget"])
            return Sent(due, seconds, 200, document[0]["madds"], budget)
    except (aiohttp.ClientError, TimeoutError):
        return Sent(due, time.perf_counter() - begin - due, 0)


def main(url: str, folder: str, schedule: str) -> None:
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    sent = asyncio.run(load(url, pictures, json.loads(schedule)))
    json.dump([asdict(each) for each in sent], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
