"""The events that a bot reports: one method for each type, and the bounded queue of events.

The queue has three lanes: latencies, prices and facts. A full queue drops the oldest latency, and
if there is none the oldest price: a newer one replaces either. All other events are facts that are
reported once; they are kept for as long as the sidecar cannot be reached.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

import msgspec

from riskmon.system.clock import boot_ns

Amount = int | float | str | Decimal
Id = str | int
Side = Literal["buy", "sell"]
Leg = Literal["long", "short"]
Status = Literal["open", "closed", "canceled", "expired", "rejected"]

_log = logging.getLogger("riskmon.client")
_encode = msgspec.json.Encoder().encode
_LATENCY, _PRICE, _FACT = range(3)
_LANES = {"latency": _LATENCY, "price": _PRICE}
_LATE_NS = 1_000_000_000
_MESSAGE_MAX = 200


class Report(NamedTuple):
    """One queued event, encoded at once: later changes of the caller's objects do not matter."""

    sequence: int
    body: bytes
    queued_ns: int
    is_live: bool  # a latency without `at`: the sidecar takes its arrival for its time

    def wire(self, now_ns: int) -> bytes:
        """Return the event as it is sent.

        A live latency that has waited gets an `at`, so that the samples of an outage do not count
        as the exchange's present latency.
        """
        waited_ns = now_ns - self.queued_ns
        if not self.is_live or waited_ns < _LATE_NS:
            return self.body
        at = datetime.now(UTC) - timedelta(microseconds=waited_ns // 1000)
        return self.body[:-1] + b',"at":' + _encode(at) + b"}"


class Rejected(NamedTuple):
    """An event that the sidecar refused, the invalid field and the refusal's detail."""

    event: bytes
    field: str | None
    detail: str


class ReportQueue:
    """Events that wait to be sent, oldest first; `put` may be called from any thread."""

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

    def put(self, kind: str, body: bytes, *, is_live: bool) -> bool:
        """Queue one event; return whether the queue was empty before."""
        with self._lock:
            was_empty = self._size == 0
            self._sequence += 1
            report = Report(self._sequence, body, boot_ns(), is_live)
            self._lanes[_LANES.get(kind, _FACT)].append(report)
            self._size += 1
            if self._size > self._capacity:
                self._drop_oldest()
            return was_empty

    def take(self, reports_max: int, bytes_max: int) -> list[Report]:
        """Remove and return the oldest events; at least one if there is any."""
        batch: list[Report] = []
        length = 0
        with self._lock:
            while self._size and len(batch) < reports_max:
                lane = min((lane for lane in self._lanes if lane), key=lambda lane: lane[0])
                length += len(lane[0].body) + 48  # for a comma and an added `at`
                if batch and length > bytes_max:
                    break
                batch.append(lane.popleft())
                self._size -= 1
        return batch

    def reject(self, report: Report, field: str | None, detail: str) -> None:
        """Log a refused event and keep it in `rejected`."""
        self.rejected.append(Rejected(report.body, field, detail))
        _log.error("event refused, field %s: %s: %s", field, detail, report.body.decode())

    def _drop_oldest(self) -> None:
        for lane in self._lanes[:_FACT]:
            if lane:
                lane.popleft()
                self._size -= 1
                self.dropped += 1
                return


class StartSending(Protocol):
    """Start to send the queue; `was_empty` if it was empty before the last event."""

    def __call__(self, *, was_empty: bool) -> None: ...


class Reports:
    """One method for each event type. It queues the event; it never waits and never raises OSError.

    Every method takes `at`, the time of the event with its zone, if that is not now, and `source`,
    the name of what reports it. Amounts, quantities and prices may be numbers, Decimals or decimal
    strings, and ids text or integers.
    """

    def __init__(self, queue: ReportQueue, start_sending: StartSending) -> None:
        self._queue = queue
        self._on_queued = start_sending
        self._closed = False

    @property
    def dropped(self) -> int:
        """The number of latencies and prices dropped from a full queue, and of late events.

        A late event is one that is reported after the client was closed.
        """
        return self._queue.dropped

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The last hundred events that the sidecar refused."""
        return tuple(self._queue.rejected)

    def _report(self, kind: str, /, **fields: object) -> None:
        if self._closed:
            self._queue.dropped += 1
            _log.error("%s reported after the client was closed: %s", kind, fields)
            return
        event = {"type": kind} | {name: v for name, v in fields.items() if v is not None}
        is_live = kind == "latency" and "at" not in event
        self._on_queued(was_empty=self._queue.put(kind, _encode(event), is_live=is_live))

    def latency(
        self,
        *,
        venue: str,
        seconds: float,
        operation: str | None = None,
        strategy: str | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report a successful request and its duration."""
        self._report(
            "latency",
            venue=venue,
            seconds=seconds,
            operation=operation,
            strategy=strategy,
            at=at,
            source=source,
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
        source: str | None = None,
    ) -> None:
        """Report a failed request; if known, its duration and message."""
        self._report(
            "error",
            venue=venue,
            operation=operation,
            seconds=seconds,
            message=message and " ".join(message.split())[:_MESSAGE_MAX],
            strategy=strategy,
            at=at,
            source=source,
        )

    def balance(
        self,
        *,
        venue: str,
        asset: str,
        free: Amount,
        locked: Amount | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report the balance of one asset; those of other assets do not change."""
        self._report(
            "balance", venue=venue, asset=asset, free=free, locked=locked, at=at, source=source
        )

    def balances(
        self,
        *,
        venue: str,
        assets: Mapping[str, Mapping[str, Amount]],
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report all balances, `{asset: {"free": …, "locked": …}}`: an absent asset is 0."""
        self._report("balances", venue=venue, assets=assets, at=at, source=source)

    def price(
        self,
        *,
        symbol: str,
        price: Amount,
        venue: str | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report the symbol's current price."""
        self._report("price", symbol=symbol, price=price, venue=venue, at=at, source=source)

    def fill(
        self,
        *,
        id: Id,
        venue: str,
        symbol: str,
        side: Side,
        quantity: Amount,
        price: Amount,
        fee: Amount | None = None,
        fee_asset: str | None = None,
        strategy: str | None = None,
        order_id: Id | None = None,
        client_id: Id | None = None,
        leg: Leg | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report a fill of an own order. Further reports of the same id are duplicates."""
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
            client_id=client_id,
            leg=leg,
            at=at,
            source=source,
        )

    def order(
        self,
        *,
        id: Id,
        venue: str,
        symbol: str,
        status: Status,
        side: Side | None = None,
        quantity: Amount | None = None,
        remaining: Amount | None = None,
        price: Amount | None = None,
        strategy: str | None = None,
        client_id: Id | None = None,
        reduce_only: bool | None = None,
        leg: Leg | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report an order that now rests (`open`), or that does not rest any more."""
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
            client_id=client_id,
            reduce_only=reduce_only,
            leg=leg,
            at=at,
            source=source,
        )

    def position(
        self,
        *,
        venue: str,
        symbol: str,
        quantity: Amount,
        entry_price: Amount | None = None,
        contract_size: Amount | None = None,
        leg: Leg | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report the position at the venue; it replaces the sum of the fills.

        One whose quantity is 0 needs no entry price.
        """
        self._report(
            "position",
            venue=venue,
            symbol=symbol,
            quantity=quantity,
            entry_price=entry_price,
            contract_size=contract_size,
            leg=leg,
            at=at,
            source=source,
        )

    def orders(
        self,
        *,
        venue: str,
        orders: Iterable[Mapping[str, object]],
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report all orders that rest at the venue: one that is absent does not rest.

        Each has the fields of `order`, but for `venue`; `id` and `symbol` are required.
        """
        self._report("orders", venue=venue, orders=list(orders), at=at, source=source)

    def positions(
        self,
        *,
        venue: str,
        positions: Iterable[Mapping[str, object]],
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report all contract positions at the venue: one that is absent is 0.

        Each has the fields of `position`, but for `venue`.
        """
        self._report("positions", venue=venue, positions=list(positions), at=at, source=source)

    def pnl(
        self,
        *,
        amount: Amount,
        id: Id,
        strategy: str | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report profit (or loss, below 0) realised elsewhere, in the reference currency."""
        self._report("pnl", amount=amount, id=id, strategy=strategy, at=at, source=source)

    def cash_flow(
        self,
        *,
        venue: str,
        asset: str,
        amount: Amount,
        id: Id,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report a deposit, or a withdrawal (below 0); it is neither profit nor loss."""
        self._report(
            "cash_flow", venue=venue, asset=asset, amount=amount, id=id, at=at, source=source
        )

    def transfer(
        self,
        *,
        id: Id,
        asset: str,
        amount: Amount,
        from_venue: str,
        to_venue: str,
        fee: Amount | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report a transfer between two venues; `amount` less `fee` arrives."""
        venues = {"from": from_venue, "to": to_venue}
        self._report(
            "transfer", id=id, asset=asset, amount=amount, **venues, fee=fee, at=at, source=source
        )

    def metric(
        self,
        *,
        name: str,
        value: Amount,
        venue: str | None = None,
        symbol: str | None = None,
        asset: str | None = None,
        strategy: str | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report any number by its name: of the scopes that it names, or of the account."""
        self._report(
            "metric",
            name=name,
            value=value,
            venue=venue,
            symbol=symbol,
            asset=asset,
            strategy=strategy,
            at=at,
            source=source,
        )

    def edge(
        self,
        *,
        bps: float,
        strategy: str | None = None,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report the expected edge of the strategy in basis points."""
        self._report("edge", bps=bps, strategy=strategy, at=at, source=source)

    def open_orders(
        self,
        *,
        venue: str,
        count: int,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report the number of orders that rest at the venue: 0 confirms a cancel."""
        self._report("open_orders", venue=venue, count=count, at=at, source=source)

    def heartbeat(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        strategy: str | None = None,
        final: bool = False,
        at: datetime | None = None,
        source: str | None = None,
    ) -> None:
        """Report that the bot runs; with `final`, that the strategy ends as planned."""
        self._report(
            "heartbeat",
            venue=venue,
            symbol=symbol,
            strategy=strategy,
            final=True if final else None,
            at=at,
            source=source,
        )
