"""What limits may look at: the portfolio, permitted orders, and when whom was heard.

A limit measures with :class:`Facts` and nothing else. Times are engine time unless they say wall.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from riskmon.core.events import Check
from riskmon.core.orders import Orders, Reservation
from riskmon.core.portfolio import Portfolio


class EdgeHeard(Struct):
    """The last edge of a strategy, in basis points."""

    bps: float
    at_ns: int
    wall_ns: int


Sizes = tuple[float, float]  # before and after an order


@dataclass(slots=True)
class Intent:
    """An order that is being checked; ``quantity`` signed, ``notional`` signed in the reference.

    ``notional`` is a text when it cannot be told. ``earlier`` is what its id has reserved already:
    the order takes its place.
    """

    order: Check
    symbol: str
    quantity: float
    notional: float | str
    earlier: Reservation | None = None


@dataclass(slots=True)
class Facts:
    """All that was reported, as it stands at one instant."""

    book: Portfolio
    orders: Orders
    edges: dict[str, EdgeHeard]  # by strategy, "" for the account
    heard_ns: dict[str, dict[str, int]]  # venue -> type of event -> when
    beats_ns: dict[str, int]  # strategy -> last heartbeat; none after a final one
    since_ns: dict[str, int]  # scope -> its first event, 0: none yet
    edge_max_age_ns: int
    now_ns: int = 0
    wall_ns: int = 0

    def intent(self, order: Check) -> Intent:
        """An order, in the terms of positions."""
        sign = 1.0 if order.side == "buy" else -1.0
        notional = self.book.order_notional(order)
        signed = notional if isinstance(notional, str) else sign * notional
        earlier = self.orders.earlier(order)
        return Intent(order, order.symbol, sign * order.quantity, signed, earlier)

    def quantity_sizes(self, order: Intent) -> Sizes:
        """|net quantity| of the order's symbol, with what is reserved on its side."""
        return _sizes(self.book.net_quantity(order.symbol), *self._pending(order), order.quantity)

    def notional_sizes(self, order: Intent) -> Sizes | str:
        """|net notional| of the order's symbol, likewise; a text when it cannot be told."""
        if isinstance(order.notional, str):
            return order.notional
        known = self.book.net_notional(order.symbol)
        if isinstance(known, str):
            return known
        held = self.book.signed_notional(order.symbol)
        return _sizes(held, *self._pending_notional(order), order.notional)

    def quantity_added(self, order: Intent) -> Sizes:
        """How much the reserved orders, without and with this, may add to the total position."""
        net = self.book.net_quantity
        others = sum(
            _excess(net(symbol), pending.buys.value, pending.sells.value)
            for symbol, pending in self.orders.pending.items()
            if symbol != order.symbol
        )
        return _added(others, net(order.symbol), *self._pending(order), order.quantity)

    def notional_added(self, order: Intent) -> Sizes | str:
        """How much they may add to the total notional; a text when it cannot be told."""
        if isinstance(order.notional, str):
            return order.notional
        net = self.book.signed_notional
        others = sum(
            _excess(net(symbol), pending.buys_notional.value, pending.sells_notional.value)
            for symbol, pending in self.orders.pending.items()
            if symbol != order.symbol
        )
        return _added(others, net(order.symbol), *self._pending_notional(order), order.notional)

    def opening(self) -> list[str]:
        """The symbols in which reserved orders may make the position larger."""
        net = self.book.net_quantity
        return [
            symbol
            for symbol, pending in self.orders.pending.items()
            if _excess(net(symbol), pending.buys.value, pending.sells.value) > 0
        ]

    def _pending(self, order: Intent) -> Sizes:
        """What is reserved to buy and to sell in the order's symbol, without the order itself."""
        pending = self.orders.pending.get(order.symbol)
        if pending is None:
            return 0.0, 0.0
        earlier = order.earlier
        return _without(
            pending.buys.value, pending.sells.value, earlier, earlier.left if earlier else 0.0
        )

    def _pending_notional(self, order: Intent) -> Sizes:
        pending = self.orders.pending.get(order.symbol)
        if pending is None:
            return 0.0, 0.0
        earlier = order.earlier
        left = (earlier.notional or 0.0) * earlier.left / earlier.quantity if earlier else 0.0
        return _without(pending.buys_notional.value, pending.sells_notional.value, earlier, left)


def _without(buys: float, sells: float, earlier: Reservation | None, left: float) -> Sizes:
    if earlier is None:
        return buys, sells
    return (buys - left, sells) if earlier.side == "buy" else (buys, sells - left)


def _sizes(held: float, buys: float, sells: float, change: float) -> Sizes:
    held += buys if change > 0 else -sells
    return abs(held), abs(held + change)


def _added(others: float, held: float, buys: float, sells: float, change: float) -> Sizes:
    before = others + _excess(held, buys, sells)
    if change > 0:
        return before, others + _excess(held, buys + change, sells)
    return before, others + _excess(held, buys, sells - change)


def _excess(held: float, buys: float, sells: float) -> float:
    """By how much the larger side of what is reserved makes a net size larger."""
    return max(abs(held + buys), abs(held - sells), abs(held)) - abs(held)
