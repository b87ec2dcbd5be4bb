"""The load of `dsnet bench serving` comes when it is due, whatever became of what came before."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from jobs.bench.record import Record
from jobs.bench.serving import ADAPTIVE, FIXED, LOADS, _figures, draw
from jobs.bench.serving_load import Sent, load, moments


def test_requests_are_due_at_the_rates_of_the_schedule_one_after_another() -> None:
    due = list(moments([(1000.0, 5.0), (100.0, 10.0)]))
    assert due == sorted(due)
    # Of a Poisson process the count's standard deviation is its mean's root: five of them.
    assert sum(moment < 5 for moment in due) == pytest.approx(5000, abs=5 * 5000**0.5)
    assert sum(5 <= moment < 15 for moment in due) == pytest.approx(1000, abs=5 * 1000**0.5)
    assert due == list(moments([(1000.0, 5.0), (100.0, 10.0)]))


def test_no_request_waits_for_the_answer_of_another_and_what_failed_is_told() -> None:
    async def run() -> tuple[int, list[Sent]]:
        count = len(list(moments([(500.0, 0.1)])))
        all_there, seen = asyncio.Event(), 0

        async def predict(request: web.Request) -> web.Response:
            nonlocal seen
            seen += 1
            if seen == count:
                all_there.set()
            await all_there.wait()  # for ever, if the generator waited for anyone
            if await request.read() == b"bad":
                return web.json_response({"error": "…"}, status=400)
            return web.json_response([{"madds": 7}], headers={"dsnet-budget": "0.5"})

        app = web.Application()
        app.router.add_post("/predict", predict)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        url = f"http://127.0.0.1:{address[1]}/predict"
        sent = await load(url, [b"good", b"bad"], [(500.0, 0.1)])
        await runner.cleanup()
        return count, sent

    count, sent = asyncio.run(run())
    assert [each.status for each in sent] == [200 if i % 2 == 0 else 400 for i in range(count)]
    assert {(each.madds, each.budget) for each in sent if each.status == 200} == {(7, 0.5)}


def test_what_is_not_answered_or_answered_late_does_not_count_as_throughput() -> None:
    sent = [
        Sent(0.5, 0.1, 200, 2_000_000, 1.0),
        Sent(1.0, 0.3, 200, 1_000_000, 0.5),
        Sent(1.8, 0.5, 200, 3_000_000, 0.9),  # the load was over
        Sent(1.9, 0.1, 503),
    ]
    figures = {figure.what: figure.value for figure in _figures(sent, seconds=2.0)}
    assert figures["throughput"] == 1.0
    assert figures["median"] == pytest.approx(300)
    assert figures["budget"] == pytest.approx(0.8)
    assert figures["spent"] == pytest.approx(2.0)
    assert figures["answered"] == 75


def test_the_plot_has_both_servers_at_every_load(tmp_path: Path) -> None:
    records = [
        Record(f"serving {load:g}x {server} {what}", "ms", 10 * load, (9 * load, 11 * load), 3)
        for load in LOADS
        for server in (FIXED, ADAPTIVE)
        for what in ("throughput", "p99", "budget")
    ]
    draw(records, tmp_path / "serving.svg")
    text = (tmp_path / "serving.svg").read_text()
    assert all(word in text for word in (FIXED, ADAPTIVE, "to hold"))
