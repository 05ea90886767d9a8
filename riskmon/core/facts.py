"""What limits may look at: the portfolio, permitted orders, and when whom was heard.

A limit measures with :class:`Facts` and nothing else. Times are engine time unless they say wall.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from riskmon.core.events import Check
from riskmon.core.money import Sum
from riskmon.core.orders import Orders, Pending
from riskmon.core.portfolio import Portfolio


class EdgeHeard(Struct):
    """The last edge of a strategy, in basis points."""

    bps: float
    at_ns: int
    wall_ns: int


@dataclass(slots=True)
class Intent:
    """An order that is being checked; ``quantity`` signed, ``notional`` signed in the reference.

    ``notional`` is a text when it cannot be told.
    """

    order: Check
    symbol: str
    quantity: float
    notional: float | str


@dataclass(slots=True)
class Facts:
    """All that was reported, as it stands at one instant."""

    book: Portfolio
    orders: Orders
    edges: dict[str, EdgeHeard]  # by strategy, "" for the account
    heard_ns: dict[str, dict[str, int]]  # venue -> type of event -> when
    beats_ns: dict[str, int]  # strategy -> last heartbeat; none after a final one
    edge_max_age_ns: int
    now_ns: int = 0
    wall_ns: int = 0
    closes: list[tuple[str, float]] = field(default_factory=list)  # (strategy, P&L) of this event

    def intent(self, order: Check) -> Intent:
        """An order, in the terms of positions."""
        sign = 1.0 if order.side == "buy" else -1.0
        notional = self.book.order_notional(order)
        signed = notional if isinstance(notional, str) else sign * notional
        return Intent(order, order.symbol, sign * order.quantity, signed)

    def quantity_sizes(self, order: Intent) -> tuple[float, float]:
        """|net quantity| of the order's symbol, with what is reserved on its side."""
        held = self.book.net_quantity(order.symbol)
        pending = self.orders.pending.get(order.symbol)
        if pending is not None:
            held += pending.buys.value if order.quantity > 0 else -pending.sells.value
        return abs(held), abs(held + order.quantity)

    def notional_sizes(self, order: Intent) -> tuple[float, float] | str:
        """|net notional| of the order's symbol, likewise; a text when it cannot be told."""
        if isinstance(order.notional, str):
            return order.notional
        known = self.book.net_notional(order.symbol)
        if isinstance(known, str):
            return known
        held = self.book.signed_notional(order.symbol)
        pending = self.orders.pending.get(order.symbol)
        if pending is not None:
            buying = order.notional > 0
            held += pending.buys_notional.value if buying else -pending.sells_notional.value
        return abs(held), abs(held + order.notional)

    def reserved_quantity(self) -> float:
        """How much the reserved orders may add to the total position."""
        return sum(
            _excess(self.book.net_quantity(symbol), pending.buys, pending.sells)
            for symbol, pending in self.orders.pending.items()
        )

    def reserved_notional(self) -> float:
        """How much the reserved orders may add to the total notional."""
        return sum(self._excess_notional(s, p) for s, p in self.orders.pending.items())

    def _excess_notional(self, symbol: str, pending: Pending) -> float:
        held = self.book.signed_notional(symbol)
        return _excess(held, pending.buys_notional, pending.sells_notional)


def _excess(held: float, buys: Sum, sells: Sum) -> float:
    """By how much the larger side of what is reserved makes a net size larger."""
    return max(abs(held + buys.value), abs(held - sells.value), abs(held)) - abs(held)
