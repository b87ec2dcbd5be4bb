"""What is scarce is shared: one client takes turns with others, however much it asks for."""

import asyncio
import threading

import pytest
from ray.exceptions import TaskCancelledError

from pipeline.predict.serve.bodies import Bodies
from pipeline.predict.serve.fair import REMEMBERED, FairQueue, Full, Room, Threads, client_at
from pipeline.predict.serve.requests import Refusal


def test_a_client_may_hold_as_much_as_it_leaves_for_others() -> None:
    room = Room(100)
    with room.share("one") as first, room.share("one") as second, room.share("other") as other:
        first(30)
        second(20)
        with pytest.raises(Full):
            first(1)
        other(25)
    with room.share("one") as again:
        again(50)


def test_the_client_that_had_least_comes_first() -> None:
    queue = FairQueue[int]()
    for number in range(4):
        queue.put("many", number)
    queue.put("few", 10)
    order = []
    while turn := queue.take():
        client, _, item = turn
        queue.charge(client, 5 if client == "many" else 1)
        order.append(item)
        if item == 10:
            queue.put("few", 11)
    assert order == [0, 10, 11, 1, 2, 3]


def test_waiting_saves_up_no_turns() -> None:
    queue = FairQueue[str]()
    for _ in range(3):
        queue.put("early", "early")
        queue.take()
        queue.charge("early", 1)
    for _ in range(3):
        queue.put("late", "late")
        queue.put("early", "early")
    order = []
    while turn := queue.take():
        queue.charge(turn[0], 1)
        order.append(turn[0])
    assert order[:4] in (["late", "early"] * 2, ["late", "late", "early", "late"])


def test_clients_that_went_are_forgotten() -> None:
    queue = FairQueue[None]()
    for number in range(3 * REMEMBERED):
        queue.put(str(number), None)
        queue.take()
        queue.charge(str(number), 1)
    assert len(queue._had) <= REMEMBERED


def test_a_thread_that_is_busy_for_one_client_works_for_the_other_next() -> None:
    async def run() -> list[str]:
        threads, may_run, order = Threads(1, "test"), threading.Event(), list[str]()

        def work(name: str) -> None:
            may_run.wait(60)
            order.append(name)

        many = [asyncio.create_task(threads("many", work, f"many {i}")) for i in range(3)]
        await asyncio.sleep(0)
        few = asyncio.create_task(threads("few", work, "few"))
        await asyncio.sleep(0)
        many[1].cancel()
        may_run.set()
        await asyncio.gather(*many, few, return_exceptions=True)
        return order

    assert asyncio.run(run()) == ["many 0", "few", "many 2"]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:0db8:0000:0000"),
        ("2001:db8::ffff", "2001:0db8:0000:0000"),
        ("", ""),
    ],
)
def test_who_an_address_belongs_to(address: str, client: str) -> None:
    assert client_at(address) == client


def part(more: bool = True) -> dict[str, object]:
    return {"type": "http.request", "body": b"x", "more_body": more}


@pytest.mark.parametrize(("pause", "slow"), [(60.0, True), (0.05, True), (0.0, False)])
def test_a_body_may_neither_pause_nor_take_for_ever(pause: float, slow: bool) -> None:
    left = iter(range(19, -1, -1))

    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause)
        return part(more=next(left) > 0)

    read = Bodies(idle_s=0.3, body_s=0.5).read(receive, lambda size: None)
    if slow:
        with pytest.raises(Refusal, match="expected the whole body within") as caught:
            asyncio.run(read)
        assert caught.value.status == 408
    else:
        assert asyncio.run(read) == b"x" * 20


def test_at_the_end_a_body_that_has_not_arrived_is_not_waited_for() -> None:
    bodies, parts = Bodies(), iter([part()])

    async def receive() -> dict[str, object]:
        if (message := next(parts, None)) is None:
            bodies.end()
            await asyncio.sleep(60)
        return message or part()

    with pytest.raises(Refusal, match="the server is ending"):
        asyncio.run(bodies.read(receive, lambda size: None))


@pytest.mark.parametrize("by_ray", [False, True])
def test_who_leaves_before_the_body_is_there_is_no_error_of_the_server(by_ray: bool) -> None:
    parts = iter([part(), {"type": "http.disconnect"}])

    async def receive() -> dict[str, object]:
        message = next(parts)
        if by_ray and message["type"] == "http.disconnect":
            raise TaskCancelledError
        return message

    with pytest.raises(Refusal, match="the client left"):
        asyncio.run(Bodies().read(receive, lambda size: None))
