"""Whole sidecars with real clients: reports from threads, guarded requests, and a freeze."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, NamedTuple

import pytest

from riskmon import Client, SyncClient, TradingHalted
from tests.support import ROOT
from tests.support.days import day_start
from tests.support.sidecar import Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET, Webhooks

pytestmark = pytest.mark.slow

CONFIGURATIONS = ROOT / "tests" / "scenarios" / "config"
LOSSES = f"""\
[portfolio]
day_start = "{day_start()}"
initial_capital = 10_000

[limits.daily_loss]
max = 50
"""
ORDER: dict[str, Any] = {"symbol": "SOL/USDT", "side": "buy", "quantity": 1, "price": 150}


def lose(url: str, name: int) -> None:
    """Report five losses of 1.0 with a client of its own."""
    with SyncClient(url) as client:
        for number in range(5):
            client.pnl(amount=-1.0, id=f"{name}-{number}")
        assert client.flush(10.0)


def test_losses_of_ten_clients_in_ten_threads_add_up_exactly(make: Make) -> None:
    """Ten clients that report 5 losses of 1.0 at once lose 50.0, which is the bound, not past it;
    the next cent trips."""
    sidecar = make(LOSSES).start_ready()
    threads = [Thread(target=lose, args=(sidecar.url, name)) for name in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = sidecar.state()
    assert state["portfolio"]["pnl_realized"] == -50.0
    (limit,) = [one for one in state["limits"] if one["limit"] == "daily_loss"]
    assert (limit["value"], state["level"]) == (50.0, "allow")
    sidecar.events({"type": "pnl", "amount": -0.01, "id": "one more"})
    assert sidecar.state()["level"] == "halt"


def of_scenario(name: str, *changes: tuple[str, str]) -> str:
    """Return the configuration of a scenario with some of its text changed."""
    text = (CONFIGURATIONS / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


class Bot(NamedTuple):
    """A bot with either client: ``place`` sends an order to a venue, which takes some seconds."""

    place: Callable[[str, float], None]
    flush: Callable[[], bool]


@contextmanager
def asynchronous(sidecar: Sidecar) -> Iterator[Bot]:
    """A bot that reads the leases in the sidecar's answers, over the Unix socket."""
    with asyncio.Runner() as runner:
        client = Client(f"unix://{sidecar.unix_path}")

        async def place(venue: str, seconds: float) -> None:
            async with client.guard(venue=venue, operation="place", order=True, **ORDER):
                await asyncio.sleep(seconds)
                if seconds < 0:
                    raise ConnectionResetError("the venue hung up")

        yield Bot(lambda *how: runner.run(place(*how)), lambda: runner.run(client.flush(10.0)))
        runner.run(client.aclose())


@contextmanager
def threaded(sidecar: Sidecar) -> Iterator[Bot]:
    """A bot that reads the gate's file, and reports over HTTP."""
    with SyncClient(sidecar.url, gate=sidecar.gate_path) as client:

        def place(venue: str, seconds: float) -> None:
            with client.guard(venue=venue, operation="place", order=True, **ORDER):
                if seconds < 0:
                    raise ConnectionResetError("the venue hung up")
                time.sleep(seconds)

        yield Bot(place, lambda: client.flush(10.0))


@pytest.mark.parametrize("kind", [asynchronous, threaded])
def test_guard_times_reports_refuses_and_probes(kind: Any, make: Make) -> None:
    """The latency breaker around a bot's own requests, with a wait of two seconds for 30: they are
    timed, a failure is reported, slow ones shut their venue alone, and three good ones open it."""
    sidecar = make(of_scenario("latency_breaker", ("after = 30", "after = 2"))).start_ready()
    of = ("latency_p99", "venue:solana")
    with kind(sidecar) as bot:
        for _ in range(100):
            bot.place("solana", 0.0)
        with pytest.raises(ConnectionResetError, match="hung up"):
            bot.place("solana", -1.0)
        assert bot.flush()
        (latency,) = sidecar.state()["latency"]
        assert (latency["venue"], latency["count"]) == ("solana", 101)
        failed = {"operation": "place", "venue": "solana"}
        assert sidecar.metric("riskmon_exchange_errors_total", **failed) == 1

        slow = 0
        while slow < 20 and permitted(bot, 0.25):
            slow += 1
            assert bot.flush()
        assert 5 <= slow <= 10
        with pytest.raises(TradingHalted, match="venue:solana is at halt"):
            bot.place("solana", 0.0)
        (latency,) = sidecar.state()["latency"]
        assert (latency["count"], latency["p99"] >= 0.25) == (101 + slow, True)
        assert sidecar.breaker(*of)["reason"].startswith("P99 0.")
        bot.place("other", 0.0)

        eventually(lambda: sidecar.breaker(*of)["state"] == "half_open", "the end of the wait")
        probes = 0
        while sidecar.breaker(*of)["state"] != "closed":  # a loaded machine may fail one
            eventually(lambda: permitted(bot, 0.0), "a permit", pause_seconds=0.1)
            probes += 1
            assert bot.flush()
            assert probes < 20
        assert probes >= 3
        bot.place("solana", 0.0)


def permitted(bot: Bot, seconds: float) -> bool:
    """Place an order that takes so many seconds; return whether it was permitted."""
    try:
        bot.place("solana", seconds)
    except TradingHalted:
        return False
    return True


def test_a_freeze_and_its_history_outlive_the_process(make: Make, oms: Webhooks) -> None:
    """The runtime risk monitor's freeze is one incident with trigger, reason and figures, before
    and after a restart; its counter goes on, and an operator ends it."""
    secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
    target = ("http://127.0.0.1:9789/cancel", oms.url), (secret, SECRET)
    sidecar = make(of_scenario("runtime_risk_monitor", *target)).start_ready()
    sidecar.events({"type": "edge", "bps": 340})
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        order = {"venue": "bybit", "symbol": symbol, "side": "buy", "quantity": 0.01}
        assert sidecar.check(**order, price=100, id=symbol)["allowed"]
    sidecar.events({"type": "edge", "bps": 150})
    sidecar.events({"type": "edge", "bps": 120})
    eventually(lambda: sidecar.incidents("freeze")[0]["confirmed_at"], "the confirmed cancel")
    before = sidecar.incidents("freeze")
    assert sidecar.metric("riskmon_freeze_triggered_total", reason="edge_collapse") == 1
    assert {body["limit"] for body in oms.bodies} == {"edge"}

    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.start_ready()
    assert sidecar.incidents("freeze") == before
    (incident,) = before
    assert {name: incident[name] for name in ("limit", "scope", "reason", "value", "bound")} == {
        "limit": "edge",
        "scope": "account",
        "reason": "edge of 150 bps under 200 bps",
        "value": 150.0,
        "bound": 200.0,
    }
    assert sidecar.metric("riskmon_freeze_triggered_total", reason="edge_collapse") == 1
    state = sidecar.state()
    assert state["level"] == "halt"
    sidecar.events({"type": "edge", "bps": 340})
    assert sidecar.operate("unfreeze", generation=state["generation"])[0] == 200
    assert sidecar.state()["level"] == "allow"
    assert sidecar.incidents("freeze")[0]["ended_by"] == "operator"
