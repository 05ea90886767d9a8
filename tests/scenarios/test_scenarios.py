"""Every table in tests/scenarios comes true, and a table that does not is told with its line."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from riskmon import Client, SyncClient, TradingHalted
from tests.scenarios.table import ScenarioError, configuration, play
from tests.support.stack import SECRET, Receiver, Sidecar, ask, free_port, sidecar, until

SCENARIOS = Path(__file__).parent
TABLES = sorted(SCENARIOS.glob("*.txt"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_scenario(path: Path) -> None:
    """All that a table says follows, and nothing that it does not say."""
    play(path)


def test_every_configuration_has_its_table() -> None:
    """No configuration lies about without a story."""
    assert {*(SCENARIOS / "config").glob("*.toml")} == {configuration(path) for path in TABLES}


FREEZE = [
    "2026-03-02 09:00:00 | edge 340 strategy=mm1 | level strategy:mm1 allow",
    "            09:00:01 | edge 150 strategy=mm1 | edge strategy:mm1: closed -> frozen",
    "                     |                       | warning edge strategy:mm1",
]


@pytest.mark.parametrize(
    ("line", "wrong", "says"),
    [
        (1, "level strategy:mm1 halt", "got 'allow'"),
        (1, "edge strategy:mm1: closed -> open", "expected"),
        (1, "value edge strategy:mm1 341", "got 340"),
        (1, "allowed", "expected answer"),
        (1, "incidents 1", "got 0"),
        (1, "nonsense 1", "nonsense"),
        (2, "", "edge strategy:mm1: closed -> frozen"),
        (
            2,
            "warning edge strategy:mm1; edge strategy:mm1: closed -> frozen",
            "every other gate as before, got ['strategy:mm1 halt']",
        ),
    ],
)
def test_a_wrong_expectation_is_seen(tmp_path: Path, line: int, wrong: str, says: str) -> None:
    """A table that says something else fails, with its file, its line and what was found."""
    (tmp_path / "config").mkdir()
    config = "[limits.edge]\nmin = 200\n"
    (tmp_path / "config" / "story.toml").write_text(config, encoding="utf-8")
    lines = FREEZE[:1] if line == 1 else FREEZE[:2]
    cells = lines[-1].rsplit("|", 1)
    path = tmp_path / "story.txt"
    path.write_text("\n".join([*lines[:-1], f"{cells[0]}| {wrong}"]), encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"story\.txt:{line}: ") as failed:
        play(path)
    assert says in str(failed.value)


LOSSES = """\
state_dir = "{folder}/state"
gate = "{folder}/main.gate"

[http]
listen = "127.0.0.1:{port}"

[portfolio]
initial_capital = 10_000

[limits.daily_loss]
max = 50
"""


def lose(url: str, name: int) -> None:
    """A client of its own reports five losses of 1.0."""
    with SyncClient(url) as client:
        for number in range(5):
            client.pnl(amount=-1.0, id=f"{name}-{number}")
        assert client.flush(10.0)


@pytest.mark.slow
def test_losses_of_ten_clients_in_ten_threads_add_up_exactly(tmp_path: Path) -> None:
    """Ten clients that report 5 losses of 1.0 at once lose 50.0, which is the bound, not past it;
    the next cent trips."""
    with sidecar(tmp_path, LOSSES.format(folder=tmp_path, port=free_port())) as running:
        threads = [Thread(target=lose, args=(running.url, name)) for name in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        state = running.call("state")
        assert state["portfolio"]["pnl_realized"] == -50.0
        (limit,) = [one for one in state["limits"] if one["limit"] == "daily_loss"]
        assert (limit["value"], state["level"]) == (50.0, "allow")
        running.report({"type": "pnl", "amount": -0.01, "id": "one more"})
        assert running.call("state")["level"] == "halt"


def real(folder: Path, scenario: str, *changes: tuple[str, str]) -> str:
    """The configuration of a scenario for a sidecar that runs, with some of its text changed."""
    text = (SCENARIOS / "config" / f"{scenario}.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    top = f'state_dir = "{folder}/state"\ngate = "{folder}/main.gate"\n'
    http = f'[http]\nlisten = "127.0.0.1:{free_port()}"\nunix = "{folder}/main.sock"\n'
    return f"{top}{http}{text}"


ORDER: dict[str, Any] = {"symbol": "SOL/USDT", "side": "buy", "quantity": 1, "price": 150}


class Bot(NamedTuple):
    """A bot of either kind: it places orders at a venue under guard, each within some seconds."""

    place: Callable[[str, float], None]
    flush: Callable[[], bool]


@contextmanager
def asynchronous(running: Sidecar, folder: Path) -> Iterator[Bot]:
    """One that goes by the leases in the answers, over the Unix socket."""
    with asyncio.Runner() as runner:
        client = Client(f"unix://{folder}/main.sock")

        async def place(venue: str, seconds: float) -> None:
            async with client.guard(venue=venue, operation="place", order=True, **ORDER):
                await asyncio.sleep(seconds)
                if seconds < 0:
                    raise ConnectionResetError("the venue hung up")

        yield Bot(lambda *how: runner.run(place(*how)), lambda: runner.run(client.flush(10.0)))
        runner.run(client.aclose())


@contextmanager
def threaded(running: Sidecar, folder: Path) -> Iterator[Bot]:
    """One that goes by the gate's file, and reports over HTTP."""
    with SyncClient(running.url, gate=folder / "main.gate") as client:

        def place(venue: str, seconds: float) -> None:
            with client.guard(venue=venue, operation="place", order=True, **ORDER):
                if seconds < 0:
                    raise ConnectionResetError("the venue hung up")
                time.sleep(seconds)

        yield Bot(place, lambda: client.flush(10.0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [asynchronous, threaded])
def test_guard_times_reports_refuses_and_probes(kind: Any, tmp_path: Path) -> None:
    """The latency breaker around a bot's own requests, with a wait of two seconds for 30: they are
    timed, a failure is reported, slow ones shut their venue alone, and three good ones open it."""
    config = real(tmp_path, "latency_breaker", ("after = 30", "after = 2"))
    with sidecar(tmp_path, config) as running, kind(running, tmp_path) as bot:
        for _ in range(100):
            bot.place("solana", 0.0)
        with pytest.raises(ConnectionResetError, match="hung up"):
            bot.place("solana", -1.0)
        assert bot.flush()
        (latency,) = running.call("state")["latency"]
        assert (latency["venue"], latency["count"]) == ("solana", 101)
        assert re.search(
            r'^riskmon_exchange_errors_total{.*operation="place",venue="solana"} 1\.0$',
            ask(f"{running.url}/metrics"),
            re.MULTILINE,
        )

        slow = 0
        while slow < 20 and permitted(bot, 0.25):
            slow += 1
            assert bot.flush()
        assert 5 <= slow <= 10
        with pytest.raises(TradingHalted, match="venue:solana is at halt"):
            bot.place("solana", 0.0)
        (latency,) = running.call("state")["latency"]
        assert (latency["count"], latency["p99"] >= 0.25) == (101 + slow, True)
        assert breaker(running)["reason"].startswith("P99 0.")
        bot.place("other", 0.0)

        until(lambda: breaker(running)["state"] == "half_open", "the end of the wait")
        probes = 0
        while breaker(running)["state"] != "closed":  # a loaded machine may fail one
            until(lambda: permitted(bot, 0.0), "a permit")
            probes += 1
            assert bot.flush()
            assert probes < 20
        assert probes >= 3
        bot.place("solana", 0.0)


def breaker(running: Sidecar) -> dict[str, Any]:
    """The latency breaker of the venue, as `/v1/state` shows it."""
    of = ("latency_p99", "venue:solana")
    rows = running.call("state")["breakers"]
    (row,) = (dict(row) for row in rows if (row["limit"], row["scope"]) == of)
    return row


def permitted(bot: Bot, seconds: float) -> bool:
    """Whether an order of so many seconds could be placed."""
    try:
        bot.place("solana", seconds)
    except TradingHalted:
        return False
    return True


@pytest.mark.slow
def test_a_freeze_and_its_history_outlive_the_process(tmp_path: Path) -> None:
    """The runtime risk monitor's freeze is one incident with trigger, reason and figures, before
    and after a restart; its counter goes on, and an operator ends it."""
    frozen = 'riskmon_freeze_triggered_total{account="main",reason="edge_collapse"} 1.0'
    with Receiver() as oms:
        secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
        target = ("http://127.0.0.1:9789", oms.url), (secret, SECRET)
        config = real(tmp_path, "runtime_risk_monitor", *target)
        with sidecar(tmp_path, config) as running:
            running.report({"type": "edge", "bps": 340})
            for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
                order = {"venue": "bybit", "symbol": symbol, "side": "buy", "quantity": 0.01}
                assert running.call("check", **order, price=100, id=symbol)["allowed"]
            running.report({"type": "edge", "bps": 150})
            running.report({"type": "edge", "bps": 120})
            until(lambda: freezes(running)[0]["confirmed_at"], "the confirmed cancel")
            before = freezes(running)
            assert frozen in ask(f"{running.url}/metrics")
        assert {body["limit"] for _, body in oms.received} == {"edge"}
        with sidecar(tmp_path, config) as running:
            assert freezes(running) == before
            (incident,) = before
            told = {name: incident[name] for name in ("limit", "scope", "reason", "value", "bound")}
            assert told == {
                "limit": "edge",
                "scope": "account",
                "reason": "edge of 150 bps under 200 bps",
                "value": 150.0,
                "bound": 200.0,
            }
            assert frozen in ask(f"{running.url}/metrics")
            state = running.call("state")
            assert state["level"] == "halt"
            running.report({"type": "edge", "bps": 340})
            why = {"scope": "account", "reason": "edge is back", "generation": state["generation"]}
            running.call("unfreeze", **why)
            assert running.call("state")["level"] == "allow"
            assert freezes(running)[0]["ended_by"] == "operator"


def freezes(running: Sidecar) -> list[dict[str, Any]]:
    """The freezes in the audit trail."""
    rows: list[dict[str, Any]] = running.call("incidents")["incidents"]
    return [row for row in rows if row["kind"] == "freeze"]
