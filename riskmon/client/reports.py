"""What a bot reports: one method for each event type, and the bounded queue behind them.

The queue keeps three lanes in one order. When it is full, the oldest latency makes room, then the
oldest price: a newer one of either tells more. Everything else is a fact that nobody will tell
again, and is kept however long the sidecar is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

import msgspec

Amount = int | float | str | Decimal
Side = Literal["buy", "sell"]

_log = logging.getLogger("riskmon.client")
_encode = msgspec.json.Encoder().encode
_LATENCY, _PRICE, _FACT = range(3)
_LANES = {"latency": _LATENCY, "price": _PRICE}
_LATE_NS = 1_000_000_000
_MESSAGE_MAX = 200


def boottime_ns() -> int:
    """Now on CLOCK_BOOTTIME, which also counts while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Report(NamedTuple):
    """One queued event, already encoded: later changes by the caller cannot reach it."""

    sequence: int
    body: bytes
    queued_ns: int
    judged_live: bool

    def wire(self, now_ns: int) -> bytes:
        """The event as sent. A latency that had to wait says when it was measured, so that
        the samples of an outage do not pass for the exchange's present speed."""
        waited_ns = now_ns - self.queued_ns
        if not self.judged_live or waited_ns < _LATE_NS:
            return self.body
        at = datetime.now(UTC) - timedelta(microseconds=waited_ns // 1000)
        return self.body[:-1] + b',"at":' + _encode(at) + b"}"


class Rejected(NamedTuple):
    """An event that the sidecar refused, the field at fault and what it said."""

    event: bytes
    field: str | None
    detail: str


class ReportQueue:
    """Events that wait to be sent, oldest first; safe to fill from any thread."""

    def __init__(self, capacity: int) -> None:
        self.dropped = 0
        self.rejected: deque[Rejected] = deque(maxlen=100)
        self._capacity = capacity
        self._lanes: tuple[deque[Report], ...] = (deque(), deque(), deque())
        self._lock = threading.Lock()
        self._sequence = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, kind: str, body: bytes, *, judged_live: bool) -> bool:
        """Queue one event; True when the queue was empty before."""
        with self._lock:
            was_empty = self._size == 0
            self._sequence += 1
            report = Report(self._sequence, body, boottime_ns(), judged_live)
            self._lanes[_LANES.get(kind, _FACT)].append(report)
            self._size += 1
            if self._size > self._capacity:
                self._drop_oldest()
            return was_empty

    def take(self, reports_max: int, bytes_max: int) -> list[Report]:
        """The next batch in the order of queueing: at least one event when there is any."""
        batch: list[Report] = []
        length = 0
        with self._lock:
            while self._size and len(batch) < reports_max:
                lane = min((lane for lane in self._lanes if lane), key=lambda lane: lane[0])
                length += len(lane[0].body) + 48  # room for a comma and a late `at`
                if batch and length > bytes_max:
                    break
                batch.append(lane.popleft())
                self._size -= 1
        return batch

    def reject(self, report: Report, field: str | None, detail: str) -> None:
        """Keep what was refused, for the bot's author to read."""
        self.rejected.append(Rejected(report.body, field, detail))
        _log.error("event refused, field %s: %s: %s", field, detail, report.body.decode())

    def _drop_oldest(self) -> None:
        for lane in self._lanes[:_FACT]:
            if lane:
                lane.popleft()
                self._size -= 1
                self.dropped += 1
                return


class Wake(Protocol):
    """Have what was queued sent; `was_empty` when nobody was told of anything before it."""

    def __call__(self, *, was_empty: bool) -> None: ...


class Reports:
    """The events of a bot, as methods that only queue: none waits, none raises for the network.

    Every method takes `at`, the time when it happened (with zone), where that is not now.
    Amounts, quantities and prices may be numbers, Decimals or decimal strings.
    """

    def __init__(self, queue: ReportQueue, wake: Wake) -> None:
        self._queue = queue
        self._tell = wake
        self._closed = False

    @property
    def dropped(self) -> int:
        """Latencies and prices that a full queue let go, and events reported after closing."""
        return self._queue.dropped

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The last hundred events that the sidecar refused."""
        return tuple(self._queue.rejected)

    def _report(self, kind: str, **fields: object) -> None:
        if self._closed:
            self._queue.dropped += 1
            _log.error("%s reported after the client was closed: %s", kind, fields)
            return
        event = {"type": kind} | {name: v for name, v in fields.items() if v is not None}
        judged_live = kind == "latency" and "at" not in event
        self._tell(was_empty=self._queue.put(kind, _encode(event), judged_live=judged_live))

    def latency(
        self,
        *,
        venue: str,
        seconds: float,
        operation: str | None = None,
        strategy: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """An answer of the venue that came, and how long it took."""
        self._report(
            "latency", venue=venue, seconds=seconds, operation=operation, strategy=strategy, at=at
        )

    def error(
        self,
        *,
        venue: str,
        operation: str | None = None,
        seconds: float | None = None,
        message: str | None = None,
        strategy: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """A request that failed, where known after how many seconds and why."""
        self._report(
            "error",
            venue=venue,
            operation=operation,
            seconds=seconds,
            message=message and " ".join(message.split())[:_MESSAGE_MAX],
            strategy=strategy,
            at=at,
        )

    def balance(
        self,
        *,
        venue: str,
        asset: str,
        free: Amount,
        locked: Amount | None = None,
        at: datetime | None = None,
    ) -> None:
        """What one asset's balance is now; other assets stay as they were."""
        self._report("balance", venue=venue, asset=asset, free=free, locked=locked, at=at)

    def balances(
        self,
        *,
        venue: str,
        assets: Mapping[str, Mapping[str, Amount]],
        at: datetime | None = None,
    ) -> None:
        """All balances, `{asset: {"free": …, "locked": …}}`: an asset left out is 0."""
        self._report("balances", venue=venue, assets=assets, at=at)

    def price(
        self, *, symbol: str, price: Amount, venue: str | None = None, at: datetime | None = None
    ) -> None:
        """The symbol's current price."""
        self._report("price", symbol=symbol, price=price, venue=venue, at=at)

    def fill(
        self,
        *,
        id: str,
        venue: str,
        symbol: str,
        side: Side,
        quantity: Amount,
        price: Amount,
        fee: Amount | None = None,
        fee_asset: str | None = None,
        strategy: str | None = None,
        order_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """A trade of one's own. Its id makes it count once, however often it is reported."""
        self._report(
            "fill",
            id=id,
            venue=venue,
            symbol=symbol,
            side=side,
            quantity=quantity,
            price=price,
            fee=fee,
            fee_asset=fee_asset,
            strategy=strategy,
            order_id=order_id,
            at=at,
        )

    def order(
        self,
        *,
        id: str,
        venue: str,
        symbol: str,
        status: Literal["open", "closed"],
        side: Side | None = None,
        quantity: Amount | None = None,
        remaining: Amount | None = None,
        price: Amount | None = None,
        strategy: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """An order that now rests, or no longer does."""
        self._report(
            "order",
            id=id,
            venue=venue,
            symbol=symbol,
            status=status,
            side=side,
            quantity=quantity,
            remaining=remaining,
            price=price,
            strategy=strategy,
            at=at,
        )

    def position(
        self,
        *,
        venue: str,
        symbol: str,
        quantity: Amount,
        entry_price: Amount,
        contract_size: Amount | None = None,
        at: datetime | None = None,
    ) -> None:
        """The position as the venue has it; it replaces what the fills added up to."""
        self._report(
            "position",
            venue=venue,
            symbol=symbol,
            quantity=quantity,
            entry_price=entry_price,
            contract_size=contract_size,
            at=at,
        )

    def pnl(
        self, *, amount: Amount, id: str, strategy: str | None = None, at: datetime | None = None
    ) -> None:
        """Profit (or loss, below 0) realised elsewhere, in the reference currency."""
        self._report("pnl", amount=amount, id=id, strategy=strategy, at=at)

    def cash_flow(
        self, *, venue: str, asset: str, amount: Amount, id: str, at: datetime | None = None
    ) -> None:
        """A deposit, or a withdrawal (below 0), so that it counts as neither profit nor loss."""
        self._report("cash_flow", venue=venue, asset=asset, amount=amount, id=id, at=at)

    def edge(self, *, bps: float, strategy: str | None = None, at: datetime | None = None) -> None:
        """The edge that the strategy expects, in basis points."""
        self._report("edge", bps=bps, strategy=strategy, at=at)

    def open_orders(self, *, venue: str, count: int, at: datetime | None = None) -> None:
        """How many orders rest at the venue: 0 confirms a cancel."""
        self._report("open_orders", venue=venue, count=count, at=at)

    def heartbeat(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        strategy: str | None = None,
        final: bool = False,
        at: datetime | None = None,
    ) -> None:
        """The bot lives; `final` says that the strategy ends as planned."""
        self._report(
            "heartbeat",
            venue=venue,
            symbol=symbol,
            strategy=strategy,
            final=True if final else None,
            at=at,
        )
