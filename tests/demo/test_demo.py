"""The programs of the demonstration as processes, and the whole scenario."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from riskmon.core.parsing import parse_json
from riskmon.demo.exchange import Invalid, NewOrder, OrderBook
from riskmon.demo.programs import DemoFailed, Program, Programs
from tests.support import ROOT


def order(side: str = "buy", quantity: float = 0.01, price: float = 64_000) -> NewOrder:
    """Return a new order for the book."""
    return NewOrder("BTC/USDT", side, quantity, price)


def test_the_book_fills_orders_that_the_price_crosses() -> None:
    """A buy order fills when the price falls to it, and changes both balances."""
    book = OrderBook()
    buy, sell = book.place(order()), book.place(order("sell", price=66_000))
    assert (book.locked("USDT"), book.locked("BTC")) == (640, 0.01)
    book.move(64_000)
    assert list(book.orders) == [sell.id]
    assert book.balances == {"BTC": pytest.approx(0.06), "USDT": pytest.approx(6_109.872)}
    (fill,) = book.fills
    assert (fill["order_id"], fill["side"], fill["fee"]) == (buy.id, "buy", pytest.approx(0.128))


def test_the_book_refuses_invalid_orders() -> None:
    """An order over the free balance, or without a quantity or price, is refused."""
    book = OrderBook()
    book.place(order(quantity=0.1))
    for bad in (order(quantity=0.1), order("short"), order(quantity=0), order(price=-1)):
        with pytest.raises(Invalid):
            book.place(bad)
    assert len(book.orders) == 1


def test_cancelling_a_symbol_leaves_the_others() -> None:
    """Cancel-all returns the number of canceled orders, and cancels only those of the symbol."""
    book = OrderBook()
    book.place(order())
    book.place(order("sell", price=66_000))
    assert book.cancel("ETH/USDT") == 0
    assert book.cancel("BTC/USDT") == 2
    assert book.cancel(None) == 0


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as started:
        yield started


def url_of(program: Program) -> str:
    """Return the URL on which a program listens."""
    line = program.wait_for("listening", 10)
    assert line is not None
    return str(line["url"])


class Levels:
    """The part of a sidecar that the bot uses: events are answered with a level, as are checks."""

    def __init__(self) -> None:
        self.level = "allow"
        self.types: set[str] = set()
        self.url = ""

    async def events(self, request: web.Request) -> web.Response:
        body = await request.read()
        parse_json(body, time.time_ns())
        events = json.loads(body)
        self.types |= {e["type"] for e in (events if isinstance(events, list) else [events])}
        scopes = ("account", "venue:simex", "symbol:BTC/USDT", "strategy:quotes")
        levels = dict.fromkeys(scopes, "allow") | {"venue:simex": self.level}
        return web.json_response({"lease": 0.5, "levels": levels})

    async def check(self, _request: web.Request) -> web.Response:
        """Allow an order while the level allows it."""
        allowed = self.level == "allow"
        return web.json_response({"allowed": allowed, "level": self.level, "reasons": []})


@pytest.fixture
async def sidecar() -> AsyncIterator[Levels]:
    levels = Levels()
    app = web.Application()
    app.router.add_post("/v1/events", levels.events)
    app.router.add_post("/v1/check", levels.check)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    levels.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield levels
    await runner.cleanup()


async def get(url: str, method: str = "GET", **body: object) -> Any:
    """Call the simulated exchange."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body or None) as response,
    ):
        return response.status, await response.json()


async def test_the_exchange_over_http(programs: Programs) -> None:
    """The endpoints place and cancel orders, and refuse invalid calls."""
    url = url_of(programs.start("exchange", "riskmon.demo.exchange", "--delay", "0"))
    new = {"symbol": "BTC/USDT", "side": "buy", "quantity": 0.001, "price": 60_000}
    first, second = [(await get(f"{url}/orders", "POST", **new))[1]["id"] for _ in range(2)]
    assert (await get(f"{url}/balances"))[1]["USDT"] == {"free": 6_630, "locked": 120}
    assert (await get(f"{url}/orders/{first}", "DELETE"))[0] == 200
    assert (await get(f"{url}/orders/{first}", "DELETE"))[0] == 404
    assert (await get(f"{url}/orders?symbol=ETH/USDT", "DELETE"))[1] == {"canceled": 0}
    assert [o["id"] for o in (await get(f"{url}/orders"))[1]["orders"]] == [second]
    assert (await get(f"{url}/orders", "DELETE"))[1] == {"canceled": 1}
    assert (await get(f"{url}/orders"))[1]["count"] == 0
    assert (await get(f"{url}/orders", "POST", **(new | {"side": "up"})))[0] == 400
    assert (await get(f"{url}/control", "PUT", delay_seconds=-1))[0] == 400
    assert (await get(f"{url}/control", "PUT", delay_seconds=0.1))[0] == 200
    assert (await get(f"{url}/control"))[1] == {"delay_seconds": 0.1, "orders_placed": 2}


async def test_no_program_outlives_its_context(tmp_path: Path) -> None:
    """Leaving the context stops the programs; an ended one is reported with its stderr."""

    def break_off(programs: Programs) -> str:
        with suppress(ZeroDivisionError), programs:
            url = url_of(programs.start("exchange", "riskmon.demo.exchange"))
            raise ZeroDivisionError
        return url

    url = break_off(Programs(tmp_path))
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(f"{url}/control")
    with Programs(tmp_path) as programs:
        broken = programs.start("exchange", "riskmon.demo.exchange", "--delay", "long")
        with pytest.raises(DemoFailed, match=r"exchange ended with exit code 2: [^§]*'long'"):
            await asyncio.to_thread(broken.wait_for, "listening", 10)


@pytest.mark.slow
async def test_the_bot_stops_at_a_shut_gate(programs: Programs, sidecar: Levels) -> None:
    """The bot reports its events, places no order while halted, and resumes afterwards."""
    exchange = await asyncio.to_thread(url_of, programs.start("ex", "riskmon.demo.exchange"))
    urls = ("--exchange", exchange, "--riskmon", sidecar.url)
    bot = programs.start("bot", "riskmon.demo.bot", *urls)
    assert await asyncio.to_thread(bot.wait_for, "status", 10)
    sidecar.level = "halt"
    halted = await asyncio.to_thread(bot.wait_for, "halted", 5)
    assert halted is not None
    assert halted["level"] == "halt"  # by the gate, or by the check before it
    await asyncio.sleep(0.1)  # requests in progress may still arrive
    before = (await get(f"{exchange}/control"))[1]["orders_placed"]
    await asyncio.sleep(0.5)
    assert (await get(f"{exchange}/control"))[1]["orders_placed"] == before > 0
    sidecar.level = "allow"
    assert await asyncio.to_thread(bot.wait_for, "resumed", 5)
    await asyncio.to_thread(bot.stop)
    assert sidecar.types >= {"latency", "balances", "price", "open_orders", "heartbeat"}


@pytest.mark.slow
def test_the_whole_scenario(tmp_path: Path) -> None:
    """The demo halts trading and exits with 1; the book is empty, and the times are measured.

    With `--keep` all still runs after the story, so that the exchange and the sidecar can be asked
    themselves. What the story measured began before, and ended after, what the sidecar measured.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RISKMON_")}
    story = subprocess.Popen(
        [sys.executable, "-m", "riskmon", "demo", "--keep"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    told = ""
    try:
        assert story.stdout is not None
        for line in story.stdout:
            told += line
            if re.search(r"\bstate +/", line):  # the last line about the running programs
                break
        assert story.poll() is None, told
        exchange = first(r"exchange +(http\S+)/orders", told)
        riskmon = first(r"status page +(http\S+)/\s", told)
        assert asyncio.run(get(f"{exchange}/orders"))[1]["count"] == 0
        placed = asyncio.run(get(f"{exchange}/control"))[1]["orders_placed"]
        assert placed > 0
        state = asyncio.run(get(f"{riskmon}/v1/state"))[1]
        assert [(b["limit"], b["scope"]) for b in state["breakers"] if b["state"] == "open"] == [
            ("latency_p99", "venue:simex")
        ]
        assert state["cancel"][0]["confirmed"]
        page = asyncio.run(text(f"{riskmon}/metrics"))
        gate_ms = float(first(r"until another process reads a shut gate +([0-9.]+) ms", told))
        cancel_ms = float(first(r"until the OMS receives the cancel +([0-9.]+) ms", told))
        for name, told_ms in (("gate", gate_ms), ("cancel", cancel_ms)):
            measured = f"riskmon_breach_to_{name}_seconds"
            assert float(first(rf"{measured}_count\S* (\S+)", page)) == 1
            assert float(first(rf"{measured}_sum\S* (\S+)", page)) * 1e3 <= told_ms + 0.01
        story.send_signal(signal.SIGINT)
        assert story.wait(30) == 1
        with pytest.raises(aiohttp.ClientConnectionError):
            asyncio.run(get(f"{exchange}/orders"))
    finally:
        if story.poll() is None:
            story.send_signal(signal.SIGINT)
            story.wait(30)
        assert story.stdout is not None
        story.stdout.close()


def first(pattern: str, text: str) -> str:
    """Return the first match of the pattern's group."""
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in: {text}"
    return found[1]


async def text(url: str) -> str:
    """Return the body of a page."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()
