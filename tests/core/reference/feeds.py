"""How a simulated account is reported: late, twice, in parts, with and without ``at``.

A :class:`Wire` holds messages until they are due and delivers them to the engine. What is
reordered is what the contract can put in order again:

* what has an ``at`` may come in any order and late; its ``at`` is exact, but that of fills may be
  0.4 s behind;
* fills of contracts come in their order, on which the entry price depends, and at most 4 s late: a
  balance that one explains waits 5 s for it;
* what has none comes in its order, at most 4 s late, so that no two messages about one another are
  more than 5 s apart;
* facts with an id come twice, and so do reports with an ``at``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction as F
from heapq import heappop, heappush
from typing import Any

from tests.core import SECOND
from tests.core.reference.exchange import CONTRACT, INVERSE, SPOT, Fill, Truth
from tests.core.reference.history import Event
from tests.core.reference.pair import Sidecar

REFRESH = 60.0  # seconds between two prices of each symbol
SYMBOLS = (SPOT, "BTC/USDT:USDT", INVERSE)


@dataclass
class Feeds:
    """How one venue reports."""

    style: str  # "whole", "single" or "polled"
    fills_dated: bool
    balances_dated: bool
    positions_dated: bool
    behind: float = 0.0  # seconds that the clock of its fills is behind


@dataclass(order=True)
class Message:
    """Events that come together."""

    due: int
    number: int
    events: list[Event] = field(compare=False)


class Wire:
    """Messages on their way to the engine, and the time."""

    def __init__(self, sidecar: Sidecar, truth: Truth) -> None:
        self.sidecar = sidecar
        self.truth = truth
        self.number = 0
        self.waiting: list[Message] = []
        self.last: dict[str, int] = {}  # when the last message of each undated feed is due
        self.refreshed = 0
        self.reordered = 0
        self.unit_values: list[float] = []  # after each message

    def send(self, *events: Event, delay: float, feed: str | None = None) -> None:
        """Deliver after a delay; one feed keeps its order."""
        due = self.sidecar.clock.now + round(delay * SECOND)
        if feed is not None:
            due = self.last[feed] = max(due, self.last.get(feed, 0))
        self.number += 1
        self.reordered += any(one.due > due for one in self.waiting)
        heappush(self.waiting, Message(due, self.number, list(events)))

    def advance(self, seconds: float) -> None:
        """Let time pass and deliver what is due; prices are repeated and so stay fresh."""
        end = self.sidecar.clock.now + round(seconds * SECOND)
        while True:
            due = self.waiting[0].due if self.waiting else end + 1
            fresh = self.refreshed + round(REFRESH * SECOND)
            then = min(due, fresh)
            if then > end:
                break
            self._wait_until(then)
            if then == fresh:
                self.quote()
            else:
                self.sidecar.step(*heappop(self.waiting).events)
                self.unit_values.append(self.sidecar.portfolio["unit_value"])
        self._wait_until(end)

    def _wait_until(self, then: int) -> None:
        self.sidecar.wait((then - self.sidecar.clock.now) / SECOND)

    def flush(self) -> None:
        """Deliver everything."""
        while self.waiting:
            self.advance((max(one.due for one in self.waiting) - self.sidecar.clock.now) / SECOND)

    def quote(self) -> None:
        """The prices of now."""
        self.refreshed = self.sidecar.clock.now
        price = float(self.truth.price)
        self.sidecar.step(*({"type": "price", "symbol": s, "price": price} for s in SYMBOLS))

    def dated(self, event: dict[str, Any], *, dated: bool, ago: float = 0.0) -> dict[str, Any]:
        """The event with the time of now."""
        return {**event, "at": self.sidecar.clock.at(ago)} if dated else event


class Venue:
    """One venue and its reports."""

    def __init__(self, name: str, feeds: Feeds, wire: Wire) -> None:
        self.name = name
        self.feeds = feeds
        self.wire = wire

    # -- what it reports

    def tell_fills(self, fills: list[Fill], delays: list[float], *, twice: bool) -> None:
        """Each execution, perhaps a second time."""
        dated = self.feeds.fills_dated
        for fill, delay in zip(fills, delays, strict=True):
            most = 40.0 if dated and fill.symbol == SPOT else 4.0
            event = self.wire.dated(self.fill(fill), dated=dated, ago=self.feeds.behind)
            feed = None if dated and fill.symbol == SPOT else f"fills of {self.name}"
            for late in (0.0, 7.0) if twice else (0.0,):
                self.wire.send(event, delay=delay * most + late, feed=feed if not late else None)

    def tell_balances(self, delay: float, gap: float, *, twice: bool = False) -> None:
        """What is held now: all assets, or one by one."""
        is_single = self.feeds.style == "single"
        events = self.balances() if is_single else [self.all_balances()]
        dated = self.feeds.balances_dated
        for number, event in enumerate(events):
            late = delay * (20.0 if dated else 4.0) + number * gap * 0.3
            feed = None if dated else f"balances of {self.name}"
            stamped = self.wire.dated(event, dated=dated)
            self.wire.send(stamped, delay=late, feed=feed)
            if twice and dated:
                self.wire.send(stamped, delay=late + 3.0)

    def tell_all_balances(self, told: Event) -> None:
        """Everything that is held, in one batch with an event about it."""
        dated = self.feeds.balances_dated
        feed = None if dated else f"balances of {self.name}"
        held = self.wire.dated(self.all_balances(), dated=dated)
        self.wire.send(told, held, delay=0.0, feed=feed)

    def tell_positions(self, delay: float, *, whole: bool) -> None:
        """The contracts."""
        dated = self.feeds.positions_dated
        feed = None if dated else f"positions of {self.name}"
        members = list(self.positions())
        events: list[dict[str, Any]] = [
            {"type": "position", "venue": self.name, **m} for m in members
        ]
        if whole:
            events = [{"type": "positions", "venue": self.name, "positions": members}]
        for event in events:
            self.wire.send(self.wire.dated(event, dated=dated), delay=delay * 4.0, feed=feed)

    # -- events

    def fill(self, fill: Fill) -> dict[str, Any]:
        """An execution as an event."""
        return {
            "type": "fill",
            "id": str(fill.number),
            "venue": self.name,
            "symbol": fill.symbol,
            "side": fill.side,
            "quantity": float(fill.quantity),
            "price": float(fill.price),
            "fee": float(fill.fee),
        }

    def all_balances(self) -> dict[str, Any]:
        """Every asset."""
        held = {asset: {"free": float(n)} for asset, n in self._held()}
        return {"type": "balances", "venue": self.name, "assets": held}

    def balances(self) -> list[dict[str, Any]]:
        """Every asset by itself."""
        return [
            {"type": "balance", "venue": self.name, "asset": asset, "free": float(n)}
            for asset, n in self._held()
        ]

    def _held(self) -> Iterator[tuple[str, F]]:
        for (venue, asset), amount in sorted(self.wire.truth.balances.items()):
            if venue == self.name:
                yield asset, amount

    def positions(self) -> Iterator[dict[str, Any]]:
        """Every contract that was ever traded here."""
        for (venue, symbol), held in sorted(self.wire.truth.positions.items()):
            if venue == self.name:
                size = {"contract_size": float(CONTRACT)} if symbol == INVERSE else {}
                yield {
                    "symbol": symbol,
                    "quantity": float(held.quantity),
                    "entry_price": float(held.entry),
                    **size,
                }
