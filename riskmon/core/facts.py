"""What limits may look at: the portfolio, permitted orders, and when whom was heard.

A limit measures with :class:`Facts` and nothing else. Times are engine time unless they say wall.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from riskmon.core.commitments import Commitments, excess
from riskmon.core.events import Check
from riskmon.core.orders import Orders, Reservation
from riskmon.core.portfolio import Portfolio


class EdgeHeard(Struct):
    """The last edge of a strategy, in basis points."""

    bps: float
    at_ns: int
    wall_ns: int


Sizes = tuple[float, float]  # before and after an order


class Intent(Struct):
    """An order that is being checked; ``quantity`` signed, ``notional`` signed in the reference.

    ``notional`` is a text when it cannot be told. ``earlier`` is what its id has reserved already:
    the order takes its place. The sizes of its symbol are kept once a limit has asked for them.
    """

    order: Check
    symbol: str
    quantity: float
    notional: float | str
    earlier: Reservation | None = None
    quantities: Sizes | None = None
    notionals: Sizes | str | None = None


@dataclass(slots=True)
class Facts:
    """All that was reported, as it stands at one instant."""

    book: Portfolio
    orders: Orders
    commitments: Commitments
    edges: dict[str, EdgeHeard]  # by strategy, "" for the account
    heard_ns: dict[str, dict[str, int]]  # venue -> type of event -> when
    beats_ns: dict[str, int]  # strategy -> last heartbeat; none after a final one
    since_ns: dict[str, int]  # scope -> its first event, 0: none yet
    edge_max_age_ns: int
    now_ns: int = 0
    wall_ns: int = 0

    def intent(self, order: Check) -> Intent:
        """An order, in the terms of positions."""
        quantity = float(order.quantity)
        notional = self.book.order_notional(order)
        earlier = self.orders.earlier(order) if order.id is not None else None
        if order.side == "sell":
            quantity = -quantity
            notional = notional if isinstance(notional, str) else -notional
        return Intent(order, order.symbol, quantity, notional, earlier)

    def quantity_sizes(self, order: Intent) -> Sizes:
        """|net quantity| of the order's symbol, with what is reserved on its side."""
        if order.quantities is None:
            held = self.book.exposures.of(order.symbol).quantity
            order.quantities = _sizes(held, *self._pending(order), order.quantity)
        return order.quantities

    def notional_sizes(self, order: Intent) -> Sizes | str:
        """|net notional| of the order's symbol, likewise; a text when it cannot be told."""
        if order.notionals is None:
            order.notionals = self._notional_sizes(order)
        return order.notionals

    def _notional_sizes(self, order: Intent) -> Sizes | str:
        if isinstance(order.notional, str):
            return order.notional
        known = self.book.exposures.net_notional(order.symbol)
        if isinstance(known, str):
            return known
        held = self.book.exposures.of(order.symbol).notional
        return _sizes(held, *self._pending_notional(order), order.notional)

    def quantity_added(self, order: Intent) -> Sizes:
        """How much the reserved orders, without and with this, may add to the total position."""
        all_rest, own = self.commitments.state.quantity.value, self.commitments.of(order.symbol)
        held = self.book.exposures.of(order.symbol).quantity
        return _added(all_rest - own.quantity, held, *self._pending(order), order.quantity)

    def notional_added(self, order: Intent) -> Sizes | str:
        """How much they may add to the total notional; a text when it cannot be told."""
        if isinstance(order.notional, str):
            return order.notional
        all_rest, own = self.commitments.state.notional.value, self.commitments.of(order.symbol)
        held = self.book.exposures.of(order.symbol).notional
        return _added(all_rest - own.notional, held, *self._pending_notional(order), order.notional)

    def _pending(self, order: Intent) -> Sizes:
        """What is reserved to buy and to sell in the order's symbol, without the order itself."""
        pending = self.orders.pending.get(order.symbol)
        if pending is None:
            return 0.0, 0.0
        buys, sells = pending.buys.value, pending.sells.value
        if order.earlier is None:
            return buys, sells
        return _without(buys, sells, order.earlier, order.earlier.left)

    def _pending_notional(self, order: Intent) -> Sizes:
        pending, earlier = self.orders.pending.get(order.symbol), order.earlier
        if pending is None:
            return 0.0, 0.0
        buys, sells = pending.buys_notional.value, pending.sells_notional.value
        if earlier is None:
            return buys, sells
        left = (earlier.notional or 0.0) * earlier.left / earlier.quantity
        return _without(buys, sells, earlier, left)


def _without(buys: float, sells: float, earlier: Reservation, left: float) -> Sizes:
    return (buys - left, sells) if earlier.side == "buy" else (buys, sells - left)


def _sizes(held: float, buys: float, sells: float, change: float) -> Sizes:
    held += buys if change > 0 else -sells
    return abs(held), abs(held + change)


def _added(others: float, held: float, buys: float, sells: float, change: float) -> Sizes:
    before = others + excess(held, buys, sells)
    if change > 0:
        return before, others + excess(held, buys + change, sells)
    return before, others + excess(held, buys, sells - change)
