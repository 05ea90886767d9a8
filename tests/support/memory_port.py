"""A port in memory, which records the calls of the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from riskmon.auth.tokens import Token, token_hash
from riskmon.core.decisions import CheckAnswer, Notice, OperateAnswer, Record, Violation
from riskmon.core.events import Check, Operate, Reported
from riskmon.core.portfolio_view import (
    AssetView,
    BalanceView,
    DifferenceView,
    FlowView,
    LeftOutView,
    PortfolioView,
    PositionView,
    StrategyView,
    TransferView,
    VenueView,
)
from riskmon.core.view import (
    BreakerView,
    CancelView,
    LatencyView,
    UnknownView,
    View,
)
from riskmon.port import Accepted, Change, Refusal, Reloaded
from riskmon.web import Access, App, Caps, Running, make_app, serve

NOW_NS = 1_767_323_045_678_901_234  # 2026-01-02T03:04:05.678Z
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # its second
OPERATOR = "operator-secret"
BOT = "bot-secret"
GRAFANA = "grafana-secret"
BOSS = "boss-secret"
EXPIRED = "expired-secret"

TOKENS = (
    Token(name="bot-1", role="ingest", hash=token_hash(BOT)),
    Token(name="grafana", role="read", hash=token_hash(GRAFANA)),
    Token(name="boss", role="operator", hash=token_hash(BOSS), expires=NOW + timedelta(seconds=1)),
    Token(name="old", role="operator", hash=token_hash(EXPIRED), expires=NOW),
)


@dataclass(frozen=True)
class ConfigFault:
    """A fault of the configuration."""

    path: str
    message: str
    hint: str


class MemoryPort:
    """Records its calls; raises ``failure`` if it is set."""

    def __init__(self) -> None:
        self.batches: list[list[Reported]] = []
        self.checks: list[Check] = []
        self.operations: list[Operate] = []
        self.rejections: list[str] = []
        self.pauses = 0
        self.refusals: list[Refusal] = []
        self.audits: list[tuple[int, int | None, bool]] = []
        self.failure: Exception | None = None
        self.not_ready: str | None = None
        self.operated = OperateAnswer(status=200, detail="done", generation=8, level="halt")
        self.reloaded = Reloaded()
        self.records: list[Record] = []
        self.subscribers: set[asyncio.Queue[Change | None]] = set()

    @property
    def untouched(self) -> bool:
        """Whether no call was recorded."""
        return not (self.batches or self.checks or self.operations)

    async def ingest(self, events: list[Reported]) -> Accepted:
        self._fail()
        self.batches.append(events)
        levels = {"account": "allow", "venue:kraken": "halt"}
        return Accepted(accepted=len(events), duplicates=0, generation=7, lease=0.5, levels=levels)

    async def check(self, order: Check) -> CheckAnswer:
        self._fail()
        self.checks.append(order)
        blame = Violation(
            limit="position", scope="symbol:BTC/USDT", value=3, bound=2, utilization=1.5
        )
        return CheckAnswer(allowed=False, level="reduce_only", reasons=[blame])

    async def operate(self, call: Operate) -> OperateAnswer:
        self._fail()
        self.operations.append(call)
        return self.operated

    async def view(self) -> View:
        self._fail()
        return VIEW

    async def audit(self, limit: int, before: int | None, refusals: bool) -> list[Record]:
        self.audits.append((limit, before, refusals))
        return self.records[:limit]

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        if "openmetrics" in accept:
            return b"# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def ready(self) -> str | None:
        return self.not_ready

    async def reload(self) -> Reloaded:
        return self.reloaded

    async def subscribe(self) -> AsyncGenerator[Change]:
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self.subscribers.add(queue)
        try:
            while (change := await queue.get()) is not None:
                yield change
        finally:
            self.subscribers.discard(queue)

    def rejected(self, reason: str, count: int = 1) -> None:
        self.rejections += [reason] * count

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def accept_paused(self) -> None:
        self.pauses += 1

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Site:
    """A running server and a client for it."""

    port: MemoryPort
    app: App
    tcp: int
    running: Running
    session: aiohttp.ClientSession
    unix_session: aiohttp.ClientSession | None = None

    def url(self, path: str) -> str:
        """Return the URL of ``path``."""
        return f"http://127.0.0.1:{self.tcp}{path}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        over_unix: bool = False,
    ) -> Answer:
        """Send one request and return its whole answer."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        session = self.unix_session if over_unix else self.session
        assert session is not None
        async with session.request(
            method, self.url(path), headers=sent, data=body, json=json
        ) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and read until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tcp)
        try:
            writer.write(data)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@dataclass(frozen=True)
class Answer:
    """The status, the headers and the body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        import json

        return json.loads(self.body)


OPEN = Access(operator_hash=token_hash(OPERATOR))
GUARDED = Access(operator_hash=token_hash(OPERATOR), tokens=TOKENS)


@asynccontextmanager
async def site(
    access: Access = OPEN, *, caps: Caps | None = None, unix: Path | None = None
) -> AsyncIterator[Site]:
    """Run a server on a free port, and on ``unix`` if it is given."""
    port = MemoryPort()
    app = make_app(port, access, caps=caps, clock_ns=lambda: NOW_NS)
    running = await serve(app, port=0, unix=unix)
    assert running.port is not None
    try:
        async with aiohttp.ClientSession() as session:
            made = Site(port=port, app=app, tcp=running.port, running=running, session=session)
            if unix is None:
                yield made
                return
            connector = aiohttp.UnixConnector(str(unix))
            async with aiohttp.ClientSession(connector=connector) as over_unix:
                made.unix_session = over_unix
                yield made
    finally:
        await running.close()


def members(items: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return every key of every item."""
    return {key for item in items for key in item}


VIEW = View(
    account="main",
    generation=7,
    at_ns=NOW_NS,
    level="allow",
    levels={"account": "allow", "venue:kraken": "halt"},
    breakers=[
        BreakerView(
            limit="latency_p99",
            kind="latency_p99",
            scope="venue:kraken",
            state="open",
            generation=7,
            since_ns=NOW_NS,
            reason="P99 0.243 s over 0.2 s (1000 samples)",
            incident="inc_1",
            value=0.243,
            bound=0.2,
            utilization=1.215,
            warning_ratio=0.8,
            warning=True,
            unknown=None,
            breaches_total=5,
            trips_total=1,
            last_trip_ns=NOW_NS,
            on_breach="trip",
            written=True,
            category="venue",
            recovers="by itself",
            until_ns=NOW_NS + 30 * 10**9,
        ),
    ],
    latency=[
        LatencyView(
            venue="kraken",
            operation=None,
            limit="latency_p99",
            count=1000,
            mean=0.1,
            min=0.01,
            max=0.5,
            p50=0.09,
            p95=0.2,
            p99=0.243,
        )
    ],
    portfolio=PortfolioView(
        reference="USDT",
        equity=10_000.0,
        settled=True,
        initial_capital=10_000.0,
        unit_value=1.0,
        pnl_realized=0.0,
        pnl_unrealized=0.0,
        pnl_day=None,
        pnl_ratio=0.0,
        drawdown_ratio=0.0,
        balances=[BalanceView(venue="kraken", asset="USDT", free=900.0, locked=0.0)],
        positions=[
            PositionView(
                venue="kraken",
                symbol="BTC/USDT",
                quantity=0.1,
                entry_price=65_000.0,
                mark=None,
                notional=None,
                unrealized=None,
            )
        ],
        exposure=None,
        exposure_worst=None,
        leverage=None,
        unpriced=["XYZ"],
        venues=[
            VenueView(
                venue="kraken",
                equity=10_000.0,
                pnl=-12.5,
                exposure=None,
                exposure_worst=None,
                leverage=None,
            )
        ],
        strategies=[StrategyView(strategy="mm1", pnl=-12.5)],
        assets=[AssetView(asset="BTC", quantity=0.1, notional=None)],
        left_out=[LeftOutView(asset="XYZ", quantity=250.0)],
        flows=[FlowView(id="d1", venue="kraken", asset="USDT", amount=500.0, since_ns=NOW_NS)],
        transfers=[
            TransferView(
                id="t1",
                asset="BTC",
                amount=0.2,
                source="kraken",
                destination="mexc",
                left=True,
                arrived=False,
                withheld=False,
                since_ns=NOW_NS,
            )
        ],
        differences=[DifferenceView(venue="kraken", kind="flow", count=1)],
    ),
    edges=[],
    unknown=[
        UnknownView(limit="edge", scope="account", reason="no edge was reported", halted=False)
    ],
    cancel=[
        CancelView(
            incident="inc_1",
            scope="venue:kraken",
            limit="latency_p99",
            sweep=2,
            confirmed=False,
            targets={"oms": "sent"},
            since_ns=NOW_NS,
        )
    ],
    last_events=[],
    freeze_total={},
    freeze_active={},
    orders_checked={},
    orders_blocked={},
    notices=[Notice(about="unpriced", text="250 XYZ are left out of equity", at_ns=NOW_NS)],
    duplicates_total=0,
)
