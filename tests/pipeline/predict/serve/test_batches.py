"""The queue before the replicas: what waits shares a batch, by budget, and waits for no more."""

import asyncio

import numpy as np
import pytest

from pipeline.predict.serve.batches import MOST, Batches
from pipeline.predict.serve.policy import Goal, Policy


class Network:
    """Answers each image with its first pixel; notes batches and budgets; runs when it is let."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], float | None]] = []
        self.may_run = asyncio.Event()

    async def __call__(
        self, pixels: np.ndarray, budget: float | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = pixels[:, 0, 0, 0].tolist()
        self.batches.append((values, budget))
        await self.may_run.wait()
        if 255 in values:
            raise RuntimeError("a batch that fails")
        whole = np.zeros(len(pixels), np.int64)
        return pixels[:, 0, 0].astype(np.float32), whole, whole


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


async def asked(
    batches: Batches, network: Network, asks: list[tuple[int, float | None]]
) -> list[int | str]:
    """Ask for all at once; each one's answer, or its error."""
    tasks = [asyncio.create_task(batches(image(value), budget)) for value, budget in asks]
    await asyncio.sleep(0)
    network.may_run.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        str(each) if isinstance(each, BaseException) else int(each.logits[0, 0]) for each in results
    ]


def test_what_waits_while_a_replica_is_busy_shares_the_next_batches() -> None:
    async def run() -> None:
        network = Network()
        asks = [(value, None) for value in range(MOST + 3)]
        assert await asked(Batches(network), network, asks) == list(range(MOST + 3))
        values = [values for values, _ in network.batches]
        assert values == [[0], list(range(1, MOST + 1)), [MOST + 1, MOST + 2]]

    asyncio.run(run())


def test_a_batch_has_one_budget_and_the_one_that_waits_longest_goes_first() -> None:
    async def run() -> None:
        network = Network()
        asks = [(0, None), (1, None), (2, 5e6), (3, None), (4, 5e6)]
        assert await asked(Batches(network, budget=9e6), network, asks) == [0, 1, 2, 3, 4]
        assert network.batches == [([0], 9e6), ([1, 3], 9e6), ([2, 4], 5e6)]

    asyncio.run(run())


def test_one_who_sends_many_images_does_not_make_another_wait_for_all_of_them() -> None:
    async def run() -> None:
        network = Network()
        batches = Batches(network)
        clients = [(value, "many") for value in range(3 * MOST)] + [(200, "few")]
        tasks = [asyncio.create_task(batches(image(value), None, who)) for value, who in clients]
        await asyncio.sleep(0)
        network.may_run.set()
        await asyncio.gather(*tasks)
        assert 200 in network.batches[1][0]

    asyncio.run(run())


def test_a_policy_cuts_the_same_share_of_every_budget_down_to_the_least() -> None:
    async def run() -> None:
        network, policy = Network(), Policy(Goal(1.0, most=8e6, least=2e6))
        asks = [(0, None), (1, 12e6), (2, 3e6), (3, 1e6)]
        await asked(Batches(network, policy=policy), network, asks)
        assert [budget for _, budget in network.batches] == [None, 12e6, 3e6, 1e6]
        policy.budget = 4e6
        await asked(Batches(network, policy=policy), network, asks)
        assert [budget for _, budget in network.batches[4:]] == [4e6, 6e6, 2e6, 1e6]

    asyncio.run(run())


def test_a_batch_that_fails_fails_for_its_own_images_alone() -> None:
    async def run() -> None:
        network = Network()
        asks = [(0, None), (255, 1e6), (2, None)]
        answers = await asked(Batches(network), network, asks)
        assert answers == [0, "a batch that fails", 2]

    asyncio.run(run())


def test_who_has_gone_is_not_run() -> None:
    async def run() -> None:
        network = Network()
        batches = Batches(network)
        first, second = (asyncio.create_task(batches(image(value))) for value in (0, 1))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        network.may_run.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.sleep(0)
        assert network.batches == [([0], None)]
        assert len(batches) == 0

    asyncio.run(run())
