"""The most expensive requests of 1 MiB: leases of other venues do not expire, others are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from bench.bodies import BODIES, filled, holding
from riskmon.gate import Gate
from riskmon.journal import entries
from tests.support.sidecar import Sidecar
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

LEASE_SECONDS = 1.0  # 20 renewals: on a busy machine some are late
SYMBOLS = 900
LARGE = 5_000  # events

# All kinds of limit, with bounds that no event here reaches.
LIMITS = """
[portfolio]
reference = "USDT"
venues = ["v"]
""" + "".join(
    f'[limits.{kind}]\nmax = {bound}\non_unknown = "ignore"\n'
    for kind, bound in {
        **dict.fromkeys(("latency_p99", "error_streak", "daily_loss", "weekly_loss"), 1e9),
        **dict.fromkeys(("position", "total_position", "open_positions", "inventory"), 1e9),
        **dict.fromkeys(("total_notional", "concentration", "loss_streak", "volatility"), 1e9),
        **dict.fromkeys(("staleness", "heartbeat"), 1e6),
        **dict.fromkeys(("error_rate", "portfolio_loss", "drawdown"), 0.99),
    }.items()
)
for _kind in ("portfolio_loss", "drawdown"):  # whose bounds are reached by reports without holdings
    LIMITS = LIMITS.replace(f"[limits.{_kind}]", f'[limits.{_kind}]\non_breach = "warn"')
ATTACKS = {
    "errors of different operations": 200,
    "errors and successes of new operations": 200,
    "latencies of different operations": 200,
    "prices of an asset through which 800 are priced": 200,
    "these prices and cash flows of USDT": 429,  # more than may be pending
    "these prices and cash flows of an asset": 429,
    "these prices and balances": 200,
    "these prices and fills": 200,
    "fills of 50 strategies with fees": 200,
    "orders": 429,  # more than may rest
    "positions of 800 symbols": 200,
    "balances of 3,000 assets, repeated": 200,
    "balances of 40,000 assets": 429,
    "balances of 40,000 assets of 0": 200,
    "cash flows of different assets": 429,
    "edges of 50 strategies": 200,
    "heartbeats with new scopes": 429,
    "no open orders": 200,
}


@dataclass
class Seen:
    """The record of a bot at another venue: readings of its gate, halted ones, its answers."""

    readings: int = 0
    shut: int = 0
    answered: int = 0
    slowest_seconds: float = 0.0


@contextmanager
def bot(sidecar: Sidecar) -> Iterator[Seen]:
    """A bot at venue ``w`` that reads its gate each millisecond and reports latencies."""
    seen, over = Seen(), threading.Event()

    def read() -> None:
        with Gate.open(sidecar.gate_path) as gate:
            while not over.wait(0.001):
                seen.readings += 1
                seen.shut += not gate.allows(venue="w")

    def report() -> None:
        while not over.wait(0.002):
            began = time.monotonic()
            sidecar.events({"type": "latency", "venue": "w", "seconds": 0.01})
            seen.answered += 1
            seen.slowest_seconds = max(seen.slowest_seconds, time.monotonic() - began)

    threads = [threading.Thread(target=read), threading.Thread(target=report)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def send(sidecar: Sidecar, body: bytes, media_type: str) -> int:
    """Send a body of events. Return the status."""
    connection = HTTPConnection("127.0.0.1", sidecar.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": media_type})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """Run a sidecar with positions in many symbols and all kinds of limit."""
    directory = tmp_path_factory.mktemp("batches")
    with Sidecar(directory, LIMITS, top=f"lease = {LEASE_SECONDS}").start() as running:
        _start, *batches = holding(SYMBOLS)
        for events in batches:
            assert send(running, msgspec.json.encode(events), "application/json") == 200
        running.events({"type": "heartbeat", "venue": "w"})
        yield running


def test_no_other_lease_lapses(sidecar: Sidecar) -> None:
    """Each attack is applied or refused atomically while a bot at another venue keeps its lease."""
    with bot(sidecar) as seen:
        for name, status in ATTACKS.items():
            answered = seen.answered
            assert send(sidecar, filled(BODIES[name]()), "application/json") == status, name
            assert seen.shut == 0, f"the gate of another venue was shut during: {name}"
            sidecar.events({"type": "latency", "venue": "w", "seconds": 0.01})
            assert seen.answered > answered or seen.slowest_seconds < LEASE_SECONDS
        lines = filled(BODIES["a mixture"](), lines=True)
        assert send(sidecar, lines, "application/x-ndjson") == 200
    assert seen.shut == 0
    assert seen.readings > 100
    assert seen.answered > len(ATTACKS)
    assert seen.slowest_seconds < PATIENCE_SECONDS / 2


def test_a_batch_is_one_entry(sidecar: Sidecar) -> None:
    """An accepted batch is one entry of the journal, a refused one is none."""
    path = Path(sidecar.state_dir) / "journal.db"

    def large() -> list[int]:
        return [len(one.events) for one in entries(path) if len(one.events) > LARGE]

    before = large()
    body = filled(BODIES["prices of 800 symbols"]())
    assert send(sidecar, body, "application/json") == 200
    assert send(sidecar, filled(BODIES["heartbeats with new scopes"]()), "application/json") == 429
    assert large() == [*before, len(msgspec.json.decode(body))]


def test_reads_are_before_or_after_a_batch(sidecar: Sidecar) -> None:
    """A state that is read while a large batch is applied is that before it or after it."""
    # Each batch sets two balances to the same value, one at its start and one at its end.
    head = [{"type": "balance", "venue": "v", "asset": "A", "free": 1}]
    tail = [{"type": "balance", "venue": "v", "asset": "Z", "free": 1}]
    filler = msgspec.json.decode(filled(BODIES["prices of 800 symbols"]()))[: 3 * LARGE]
    over, wrong, read_values = threading.Event(), list[object](), set[object]()

    def read() -> None:
        while not over.is_set():
            balances = sidecar.state()["portfolio"]["balances"]
            held = {one["asset"]: one["free"] for one in balances if one["asset"] in "AZ"}
            read_values.add(held.get("A"))
            wrong.extend([held] if held.get("A") != held.get("Z") else [])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for free in range(1, 8):
            head[0]["free"] = tail[0]["free"] = free
            body = msgspec.json.encode([*head, *filler, *tail])
            assert send(sidecar, body, "application/json") == 200
    finally:
        over.set()
        reader.join()
    assert not wrong
    assert len(read_values) > 1
