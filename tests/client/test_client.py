"""The clients against a small HTTP server whose answers the tests determine."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from riskmon.client import Client, SyncClient, TradingHalted
from riskmon.client.reports import ReportQueue
from riskmon.core.events import Reported
from riskmon.core.parsing import Parsing
from riskmon.gate import Gate, Level
from riskmon.gate_writer import GateWriter
from riskmon.system.clock import boot_ns

Reply = Callable[[Any], Awaitable[web.Response] | web.Response]
ORDER: dict[str, Any] = {"symbol": "BTC/USDT", "side": "buy", "quantity": 1, "price": "65000"}

KNOWN = {"account": "allow", "symbol:BTC/USDT": "allow"}


def taken(lease: float = 60.0, **levels: str) -> web.Response:
    """Return the answer to an accepted batch; `kraken="halt"` sets the level of that venue."""
    scopes = {name if name == "account" else f"venue:{name}": v for name, v in levels.items()}
    answer = {"accepted": 1, "duplicates": 0, "generation": 7, "lease": lease}
    return web.json_response({**answer, "levels": {**KNOWN, **scopes}})


def warning(field: str) -> Reply:
    """Return a reply that names one dropped member."""
    answer = {"accepted": 1, "duplicates": 0, "generation": 7, "lease": 60.0, "levels": KNOWN}
    warned = {"index": 0, "field": field, "what": "bad"}
    return lambda _: web.json_response({**answer, "warnings": [warned]})


def problem(status: int, **fields: object) -> web.Response:
    """Return a refusal in problem+json."""
    return web.json_response(fields, status=status, content_type="application/problem+json")


class Sidecar:
    """Records its requests; answers with the next reply, or with the default after the last one."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.accepted: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.replies: list[Reply] = []
        self.verdict: Reply = lambda _: web.json_response(
            {"allowed": True, "level": "probe", "reasons": []}
        )
        self.default: Reply = lambda _: taken(kraken="allow")

    async def events(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(request.headers.get("Authorization"))
        reply = (self.replies.pop(0) if self.replies else self.default)(body)
        response = await reply if not isinstance(reply, web.Response) else reply
        if response.status == 200:
            self.accepted += body if isinstance(body, list) else [body]
        return response

    async def check(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.checks.append(body)
        reply = self.verdict(body)
        return reply if isinstance(reply, web.Response) else await reply

    @asynccontextmanager
    async def serve(self, port: int = 0, unix: Path | None = None) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/events", self.events)
        app.router.add_post("/v1/check", self.check)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        if unix is None:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        else:
            await web.UnixSite(runner, str(unix)).start()
            yield f"unix://{unix}"
        await runner.cleanup()


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


@pytest.fixture
async def url(sidecar: Sidecar) -> AsyncIterator[str]:
    async with sidecar.serve() as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as opened:
        yield opened


@pytest.fixture
def gate_file(tmp_path: Path) -> Iterator[GateWriter]:
    file = GateWriter.create(
        tmp_path / "main.gate", max_scopes=8, longest_lease_ns=60 * 10**9, epoch=1
    )
    yield file
    file.close()


def open_gate(file: GateWriter, **levels: Level) -> None:
    """Renew every lease for a minute, with these levels of the venues."""
    for venue in levels:
        file.add(f"venue:{venue}")
    by_scope = {f"venue:{venue}": level for venue, level in levels.items()}
    file.renew(boot_ns() + 50 * 10**9, by_scope, 1)


async def test_every_event_is_one_that_the_sidecar_accepts(
    client: Client, sidecar: Sidecar
) -> None:
    """All event methods send events that the sidecar's parser accepts, in order."""
    at = datetime.now(UTC)
    client.latency(venue="kraken", seconds=0.1, operation="add", strategy="mm1", at=at)
    client.error(venue="kraken", operation="add", seconds=1.0, message="a\nb", strategy="mm1")
    client.balance(venue="kraken", asset="BTC", free=Decimal("0.00000001"), locked="1.5")
    client.balances(venue="kraken", assets={"BTC": {"free": 1, "locked": 2}, "USDT": {"free": 3}})
    client.price(symbol="BTC/USDT", price=65000, venue="kraken")
    fill: dict[str, Any] = ORDER | {"venue": "kraken", "fee": 1, "fee_asset": "BTC"}
    client.fill(id="T1", strategy="mm1", order_id=7, client_id="c", leg="long", **fill)
    order: dict[str, Any] = ORDER | {"venue": "kraken", "remaining": 1, "strategy": "mm1"}
    client.order(id="O1", status="canceled", client_id="c", reduce_only=True, leg="short", **order)
    resting = {"id": 7, "symbol": "BTC/USDT", "price": Decimal("0.1"), "strategy": None}
    client.orders(venue="kraken", orders=[resting])
    client.position(venue="kraken", symbol="BTC/USDT", quantity=-1, entry_price=1, contract_size=1)
    client.position(venue="kraken", symbol="BTC/USDT", quantity=0, leg="long")
    held = {"symbol": "BTC/USDT:USDT", "quantity": 3, "entry_price": 1, "leg": "short"}
    client.positions(venue="kraken", positions=iter([held]))
    client.pnl(amount=-5, id="P1", strategy="mm1")
    client.cash_flow(venue="kraken", asset="USDT", amount=100, id=3)
    client.transfer(
        id="X1", asset="USDT", amount=100, from_venue="kraken", to_venue="mexc", fee="0.5"
    )
    client.metric(name="margin_ratio", value=0.4, venue="kraken", asset="BTC", source="feed")
    client.edge(bps=150, strategy="mm1")
    client.open_orders(venue="kraken", count=0)
    client.heartbeat(venue="kraken", symbol="BTC/USDT", strategy="mm1", final=True)
    assert await client.flush()
    assert [event["type"] for event in sidecar.accepted] == [
        *("latency", "error", "balance", "balances", "price", "fill", "order", "orders"),
        *("position", "position", "positions", "pnl", "cash_flow", "transfer", "metric"),
        *("edge", "open_orders", "heartbeat"),
    ]
    parsing = Parsing(json.dumps(sidecar.accepted).encode(), time.time_ns())
    assert len(parsing.finish()) == 18
    assert parsing.members.dropped == 0


async def test_every_method_takes_every_field(client: Client, sidecar: Sidecar) -> None:
    """A field of an event that no method has could not be reported."""
    for kind in Reported.__args__:
        tag = str(kind.__struct_config__.tag)
        fields = {field.name for field in msgspec.structs.fields(kind)}
        method = inspect.signature(getattr(client, tag))
        assert set(method.parameters) == fields - {"unread", "used", "total"}, tag


async def test_dropped_members_are_logged_once(
    client: Client, sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning of the sidecar's answer is logged, and again when it changes."""
    for field in ("assets.A", "assets.A", "assets.B"):
        sidecar.replies = [warning(field)]
        client.balances(venue="kraken", assets={})
        assert await client.flush()
    assert [record.getMessage() for record in caplog.records if "dropped" in record.msg] == [
        "the sidecar dropped assets.A of a report: bad",
        "the sidecar dropped assets.B of a report: bad",
    ]


async def test_a_backlog_is_sent_in_batches_of_a_thousand(client: Client, sidecar: Sidecar) -> None:
    """A backlog is sent in few requests, none over the size that the sidecar accepts."""
    for count in range(2_500):
        client.open_orders(venue="kraken", count=count)
    assert await client.flush()
    assert [event["count"] for event in sidecar.accepted] == list(range(2_500))
    assert [len(body) for body in sidecar.bodies] == [1_000, 1_000, 500]


async def test_a_refused_batch_loses_only_the_invalid_event(
    client: Client, sidecar: Sidecar
) -> None:
    """The event that a 400 names is moved to `rejected`; the others are sent again."""
    sidecar.replies = [lambda _: problem(400, index=1, field="count", detail="below 0")]
    for count in (0, -1, 2):
        client.open_orders(venue="kraken", count=count)
    assert await client.flush()
    assert [event["count"] for event in sidecar.accepted] == [0, 2]
    (rejected,) = client.rejected
    assert (json.loads(rejected.event)["count"], rejected.field) == (-1, "count")
    assert "below 0" in rejected.detail


@pytest.mark.parametrize("status", [400, 413, 429])
async def test_a_refusal_without_an_index_halves_the_batch(
    client: Client, sidecar: Sidecar, status: int
) -> None:
    """Halving finds the one invalid event; all others are accepted."""
    kind = "urn:riskmon:problem:too_many_scopes"
    sidecar.default = lambda body: (
        problem(status, type=kind) if any(event["count"] == 3 for event in body) else taken()
    )
    for count in range(7):
        client.open_orders(venue="kraken", count=count)
    assert await client.flush()
    assert [event["count"] for event in sidecar.accepted] == [0, 1, 2, 4, 5, 6]
    assert len(client.rejected) == 1


@pytest.mark.parametrize("status", [401, 408, 429, 500, 503])
async def test_a_batch_is_repeated_until_it_is_accepted(
    client: Client, sidecar: Sidecar, status: int
) -> None:
    """After a refusal that no event caused, the same batch is sent again."""
    refusal = problem(status, detail="later")
    refusal.headers["Retry-After"] = "0.01"
    sidecar.replies = [lambda _: refusal]
    client.cash_flow(venue="kraken", asset="USDT", amount=1, id="C1")
    assert await client.flush()
    assert [len(body) for body in sidecar.bodies] == [1, 1]
    assert [event["id"] for event in sidecar.accepted] == ["C1"]
    assert client.rejected == ()


async def test_retry_after_is_respected(client: Client, sidecar: Sidecar) -> None:
    """The client sends no request before the time in Retry-After."""
    times: list[float] = []

    def later(_: object) -> web.Response:
        times.append(time.monotonic())
        refusal = problem(429, detail="queue full")
        refusal.headers["Retry-After"] = "0.4"
        return refusal

    def now(_: object) -> web.Response:
        times.append(time.monotonic())
        return taken()

    sidecar.replies = [later, now]
    client.heartbeat(venue="kraken")
    assert await client.flush()
    assert times[1] - times[0] >= 0.4


async def test_facts_survive_a_full_queue_and_a_dead_sidecar(sidecar: Sidecar) -> None:
    """A full queue drops the oldest latencies, then prices; every fact arrives later."""
    async with sidecar.serve() as url:
        port = int(url.rsplit(":", 1)[1])
    async with Client(url, queue_max=4) as client:
        client.fill(id="T0", venue="kraken", **ORDER)
        await asyncio.sleep(0)  # the sender takes the first event; the rest stays in the queue
        client.price(symbol="BTC/USDT", price=1)
        for seconds in (1, 2, 3, 4):
            client.latency(venue="kraken", seconds=seconds)
        for number in (1, 2, 3):
            client.fill(id=f"T{number}", venue="kraken", **ORDER)
        assert client.dropped == 4
        client.latency(venue="kraken", seconds=5)
        client.fill(id="T4", venue="kraken", **ORDER)
        client.fill(id="T5", venue="kraken", **ORDER)
        async with sidecar.serve(port):
            assert await client.flush(10)
    ids = [event["id"] for event in sidecar.accepted if event["type"] == "fill"]
    assert ids == ["T0", "T1", "T2", "T3", "T4", "T5"]
    assert [event["type"] for event in sidecar.accepted if event["type"] != "fill"] == []
    assert client.dropped == 6


def test_a_late_latency_has_the_time_of_its_measurement() -> None:
    """After an outage old samples have `at`, so that they do not count as present latencies."""
    queue = ReportQueue(10)
    queue.put("latency", b'{"type":"latency","venue":"kraken","seconds":0.1}', is_live=True)
    queue.put("heartbeat", b'{"type":"heartbeat"}', is_live=False)
    late, fact = queue.take(10, 10_000)
    now_ns = boot_ns()
    assert "at" not in json.loads(late.wire(now_ns))
    at = datetime.fromisoformat(json.loads(late.wire(now_ns + 60 * 10**9))["at"])
    assert 59 < (datetime.now(UTC) - at).total_seconds() < 120
    assert json.loads(fact.wire(now_ns + 60 * 10**9)) == {"type": "heartbeat"}


async def test_closing_ends_in_time_without_a_sidecar(
    sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a sidecar, closing ends in time with an error; a later report is dropped."""
    async with sidecar.serve() as url:
        pass
    client = Client(url)
    client.heartbeat(venue="kraken")
    await client.aclose(0.05)
    assert "closed before the sidecar had accepted every event" in caplog.text
    client.heartbeat(venue="kraken")
    assert client.dropped == 1


async def test_closing_ends_when_a_cancel_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that survives one cancel, as aiohttp's can, ends at the next."""

    async def lost(*_: object) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    monkeypatch.setattr(client._transport, "post", lost)
    client.heartbeat(venue="kraken")
    async with asyncio.timeout(2):
        await client.aclose(0.05)
    client.heartbeat(venue="kraken")
    assert client.dropped == 1  # it is closed: nothing is sent any more


async def test_guard_reports_a_latency(client: Client, sidecar: Sidecar) -> None:
    """A body without an exception is reported as a latency with operation and strategy."""
    async with client.guard(venue="kraken", operation="ping", strategy="mm1"):
        await asyncio.sleep(0.01)
    assert await client.flush()
    (event,) = sidecar.accepted
    assert event.pop("seconds") >= 0.01
    assert event == {
        "type": "latency",
        "venue": "kraken",
        "operation": "ping",
        "strategy": "mm1",
    }


async def test_guard_reports_an_error_and_raises_it_again(client: Client, sidecar: Sidecar) -> None:
    """A body that raises is reported as an error with its duration and a short message."""
    with pytest.raises(OSError, match="refused"):
        async with client.guard(venue="kraken", operation="ping"):
            raise OSError("refused\n" + "x" * 1_000)
    assert await client.flush()
    (event,) = sidecar.accepted
    assert (event["type"], event["operation"]) == ("error", "ping")
    assert event["seconds"] >= 0
    assert event["message"].startswith("OSError: refused x")
    assert len(event["message"]) <= 200


async def test_guard_does_not_report_a_stopping_bot(client: Client, sidecar: Sidecar) -> None:
    """A body that is cancelled at once is not reported, nor one that raises TradingHalted."""

    async def request() -> None:
        async with client.guard(venue="kraken"):
            await asyncio.sleep(60)

    task = asyncio.create_task(request())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TradingHalted):
        async with client.guard(venue="kraken"):
            raise TradingHalted("halt", "account")
    assert await client.flush()
    assert sidecar.accepted == []


async def test_the_gate_file_decides(url: str, sidecar: Sidecar, gate_file: GateWriter) -> None:
    """With a gate, its level allows or refuses an order, and the exception names the scope."""
    open_gate(gate_file, kraken=Level.ALLOW, mexc=Level.HALT)
    with Gate.open(gate_file.path) as gate:
        async with Client(url, gate=gate) as client:
            async with client.guard(venue="kraken", order=True):
                pass
            assert client.allows(venue="kraken")
            with pytest.raises(TradingHalted) as halted:
                async with client.guard(venue="mexc", symbol="BTC/USDT", order=True):
                    pytest.fail("an order passed a shut gate")
            assert (halted.value.level, halted.value.scope) == ("halt", "symbol:BTC/USDT")
            with pytest.raises(TradingHalted) as halted:
                async with client.guard(venue="mexc", order=True):
                    pytest.fail("an order passed a shut gate")
            assert (halted.value.level, halted.value.scope) == ("halt", "venue:mexc")
    assert sidecar.checks == []


async def test_a_halted_account_is_the_named_scope(url: str, gate_file: GateWriter) -> None:
    """When the account is halted, the exception names the account, not the venue."""
    gate_file.add("venue:kraken")
    async with Client(url, gate=str(gate_file.path)) as client:
        with pytest.raises(TradingHalted) as halted:
            async with client.guard(venue="kraken", order=True):
                pytest.fail("an order passed a shut gate")
    assert halted.value.scope == "account"


async def test_a_missing_gate_file_is_named(url: str, tmp_path: Path) -> None:
    """The exception names a missing gate file, also at the default path of the owner."""
    missing = tmp_path / "missing.gate"
    default = ("main", 54_321, "/dev/shm/riskmon-54321/main.gate")
    for gate, owner, path in ((missing, None, missing), default):
        async with Client(url, gate=gate, owner=owner) as client:
            with pytest.raises(TradingHalted) as halted:
                async with client.guard(venue="kraken", order=True):
                    pytest.fail("an order passed without a gate")
        assert str(halted.value) == f"account is at halt: there is no file {path}"
    for kind in (Client, SyncClient):
        with pytest.raises(ValueError, match="owner 'rismkon' has no passwd entry here"):
            kind(url, gate="main", owner="rismkon")


async def test_the_first_order_registers_its_venue(
    url: str, sidecar: Sidecar, gate_file: GateWriter
) -> None:
    """A venue without a record is registered by a heartbeat before its first order."""
    open_gate(gate_file)

    def register(_: object) -> web.Response:
        open_gate(gate_file, kraken=Level.ALLOW)
        return taken(kraken="allow")

    sidecar.replies = [register]
    async with (
        Client(url, gate=gate_file.path) as client,
        client.guard(venue="kraken", order=True),
    ):
        pass
    assert sidecar.bodies[0] == {"type": "heartbeat", "venue": "kraken"}


async def test_without_a_gate_the_leases_of_the_answers_decide(
    client: Client, sidecar: Sidecar
) -> None:
    """A remote bot registers once, trades during its lease, and stops at an answer with halt."""
    assert not client.allows(venue="kraken")
    async with client.guard(venue="kraken", order=True):
        pass
    assert client.allows(venue="kraken")
    assert not client.allows(venue="mexc")
    sidecar.default = lambda _: taken(kraken="halt")
    client.heartbeat(venue="kraken")
    assert await client.flush()
    with pytest.raises(TradingHalted) as halted:
        async with client.guard(venue="kraken", order=True):
            pytest.fail("an order passed without a lease")
    assert (halted.value.level, halted.value.scope) == ("halt", "venue:kraken")


async def test_a_lease_counts_from_the_request(client: Client, sidecar: Sidecar) -> None:
    """An answer that takes longer than its lease allows nothing."""

    async def slow(_: object) -> web.Response:
        await asyncio.sleep(0.3)
        return taken(lease=0.25, kraken="allow")

    sidecar.replies = [slow]
    client.heartbeat(venue="kraken")
    assert await client.flush()
    assert not client.allows(venue="kraken")
    client.heartbeat(venue="kraken")
    assert await client.flush()
    assert client.allows(venue="kraken")


async def test_an_unreachable_sidecar_allows_no_order(sidecar: Sidecar) -> None:
    """Without an answer trading is halted, and the exception has the cause."""
    async with sidecar.serve() as url:
        pass
    async with Client(url) as client:
        with pytest.raises(TradingHalted, match="cannot be reached"):
            async with client.guard(venue="kraken", order=True):
                pytest.fail("an order passed without a lease")
        with pytest.raises(ConnectionError, match="cannot be reached"):
            await client.check(venue="kraken", **ORDER)


async def test_level_probe_checks_the_order(client: Client, sidecar: Sidecar) -> None:
    """At level probe an order passes when its check allows it, else it is refused with reasons."""
    sidecar.default = lambda _: taken(kraken="probe")
    async with client.guard(venue="kraken", order=True, strategy=None, **ORDER):
        pass
    assert sidecar.checks == [{"venue": "kraken", **ORDER}]
    reason = {"limit": "latency_p99", "scope": "venue:kraken", "value": 0.3, "bound": 0.2}
    sidecar.verdict = lambda _: web.json_response(
        {"allowed": False, "level": "halt", "reasons": [reason]}
    )
    with pytest.raises(TradingHalted) as halted:
        async with client.guard(venue="kraken", order=True, **ORDER):
            pytest.fail("an order passed without a permit")
    assert halted.value.level == "halt"
    assert [(r.limit, r.value, r.bound) for r in halted.value.reasons] == [
        ("latency_p99", 0.3, 0.2)
    ]
    with pytest.raises(TradingHalted, match="side, quantity, price"):
        async with client.guard(venue="kraken", symbol="BTC/USDT", order=True):
            pytest.fail("an order passed without a permit")


@pytest.mark.parametrize("level", ["allow", "probe", "reduce_only", "halt"])
async def test_a_whole_order_is_checked_at_every_level(
    client: Client, sidecar: Sidecar, level: str
) -> None:
    """Its answer decides: a limit may refuse it at `allow`, and a permit let it pass at `halt`."""
    sidecar.default = lambda _: taken(kraken=level)
    async with client.guard(venue="kraken", order=True, reduce_only=True, **ORDER):
        pass
    assert sidecar.checks == [{"venue": "kraken", "reduce_only": True, **ORDER}]
    sidecar.verdict = lambda _: web.json_response({"allowed": False, "level": level})
    with pytest.raises(TradingHalted, match=level):
        async with client.guard(venue="kraken", order=True, **ORDER):
            pytest.fail("an order passed that was refused")


async def test_a_check_of_a_market_order_that_closes(client: Client, sidecar: Sidecar) -> None:
    """Neither a price nor a quantity is sent; its type, slippage and leg are."""
    order: Any = {"venue": "kraken", "symbol": "BTC/USDT:USDT", "side": "sell"}
    more: Any = {"type": "market", "slippage": 0.02, "close_position": True, "leg": "long"}
    await client.check(**order, **more)
    assert sidecar.checks == [{**order, **more}]


async def test_check_returns_a_typed_answer(client: Client, sidecar: Sidecar) -> None:
    """The answer has typed fields; a refused request is a ValueError with the detail."""
    verdict = await client.check(venue="kraken", simulate=True, **ORDER)
    assert (verdict.allowed, verdict.level, verdict.reasons) == (True, "probe", ())
    assert sidecar.checks[0]["simulate"] is True
    sidecar.verdict = lambda _: problem(400, field="side", detail="side is buy or sell")
    with pytest.raises(ValueError, match="side is buy or sell"):
        await client.check(venue="kraken", **ORDER)
    sidecar.verdict = lambda _: web.Response(text="not JSON")
    with pytest.raises(ConnectionError, match="cannot be parsed"):
        await client.check(venue="kraken", **ORDER)


async def test_a_unix_socket_and_a_token(sidecar: Sidecar, tmp_path: Path) -> None:
    """The same requests are sent over a Unix socket, with a bearer token."""
    async with (
        sidecar.serve(unix=tmp_path / "main.sock") as url,
        Client(url, token="secret") as client,
    ):
        client.heartbeat(venue="kraken")
        assert await client.flush()
    assert sidecar.headers == ["Bearer secret"]


async def test_sync_client_reports_from_many_threads(url: str, sidecar: Sidecar) -> None:
    """Ten threads report and guard concurrently; every event arrives once."""

    def bot(number: int, client: SyncClient) -> None:
        for count in range(50):
            client.pnl(amount=1, id=f"{number}-{count}")
        with client.guard(venue="kraken", operation="ping"):
            pass

    def run() -> None:
        with SyncClient(url) as client:
            threads = [threading.Thread(target=bot, args=(n, client)) for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.flush(10)

    await asyncio.to_thread(run)
    ids = [event["id"] for event in sidecar.accepted if event["type"] == "pnl"]
    assert len(ids) == len(set(ids)) == 500
    assert sum(event["type"] == "latency" for event in sidecar.accepted) == 10


async def test_sync_guard_and_check(url: str, sidecar: Sidecar) -> None:
    """SyncClient refuses, allows and checks as Client does."""

    def run() -> None:
        with SyncClient(url) as client:
            assert client.check(venue="kraken", **ORDER).allowed
            with client.guard(venue="kraken", order=True):
                pass
            assert client.allows(venue="kraken")
            sidecar.default = lambda _: taken(kraken="halt")
            client.heartbeat()
            assert client.flush()
            with (
                pytest.raises(TradingHalted),
                client.guard(venue="kraken", order=True),
            ):
                pytest.fail("an order passed without a lease")
            with pytest.raises(ZeroDivisionError), client.guard(venue="kraken"):
                raise ZeroDivisionError
        client.close()

    await asyncio.to_thread(run)
    assert [event["type"] for event in sidecar.accepted][-1] == "error"


@pytest.mark.parametrize("level", ["allow", "probe", "reduce_only", "halt"])
async def test_sync_guard_checks_a_whole_order_at_every_level(
    url: str, sidecar: Sidecar, level: str
) -> None:
    """SyncClient sends a whole order to the check at every level, as Client does."""
    sidecar.default = lambda _: taken(kraken=level)

    def run() -> None:
        with SyncClient(url) as client:
            with client.guard(venue="kraken", order=True, **ORDER):
                pass
            sidecar.verdict = lambda _: web.json_response({"allowed": False, "level": level})
            with (
                pytest.raises(TradingHalted, match=level),
                client.guard(venue="kraken", order=True, **ORDER),
            ):
                pytest.fail("an order passed that was refused")

    await asyncio.to_thread(run)
    assert sidecar.checks == [{"venue": "kraken", **ORDER}] * 2
