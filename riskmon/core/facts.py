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


class Sizes(Struct):
    """A size before and after an order, with what the orders that rest may add to it.

    ``symbol_*`` is the net size of the order's symbol; ``added_*`` is what all resting orders may
    add to the sum over all symbols.
    """

    symbol_before: float
    symbol_after: float
    added_before: float
    added_after: float


class Intent(Struct):
    """An order that is being checked; ``quantity`` signed, ``notional`` signed in the reference.

    ``notional`` is a text when it cannot be told. ``earlier`` is what its id has reserved already:
    the order takes its place. The sizes are kept once a limit has asked for them.
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

    def quantities(self, order: Intent) -> Sizes:
        """Sizes in base units or contracts."""
        if order.quantities is None:
            symbol, earlier, buys, sells = order.symbol, order.earlier, 0.0, 0.0
            pending = self.orders.pending.get(symbol)
            if pending is not None:
                buys, sells = pending.buys.value, pending.sells.value
            held = self.book.exposures.of(symbol).quantity
            own = self.commitments.of(symbol).quantity
            others = self.commitments.state.quantity.value - own
            if earlier is not None:
                buys, sells = _without(buys, sells, earlier, earlier.left)
                own = excess(held, buys, sells)
            order.quantities = _sizes(held, buys, sells, order.quantity, others + own, others)
        return order.quantities

    def notionals(self, order: Intent) -> Sizes | str:
        """Sizes in the reference; a text when they cannot be told."""
        if order.notionals is None:
            order.notionals = self._notionals(order)
        return order.notionals

    def _notionals(self, order: Intent) -> Sizes | str:
        symbol, earlier, buys, sells = order.symbol, order.earlier, 0.0, 0.0
        known = self.book.exposures.net_notional(symbol)
        if isinstance(order.notional, str) or isinstance(known, str):
            return order.notional if isinstance(order.notional, str) else str(known)
        pending = self.orders.pending.get(symbol)
        if pending is not None:
            buys, sells = pending.buys_notional.value, pending.sells_notional.value
        held = self.book.exposures.of(symbol).notional
        own = self.commitments.of(symbol).notional
        others = self.commitments.state.notional.value - own
        if earlier is not None:
            left = (earlier.notional or 0.0) * earlier.left / earlier.quantity
            buys, sells = _without(buys, sells, earlier, left)
            own = excess(held, buys, sells)
        return _sizes(held, buys, sells, order.notional, others + own, others)


def _without(buys: float, sells: float, earlier: Reservation, left: float) -> tuple[float, float]:
    return (buys - left, sells) if earlier.side == "buy" else (buys, sells - left)


def _sizes(  # noqa: PLR0917 -- a formula, and by far the most called
    held: float, buys: float, sells: float, change: float, added: float, others: float
) -> Sizes:
    """``added`` is what all resting orders may add to the sum; ``others``, of other symbols."""
    if change > 0:
        rest = held + buys
        buys += change
    else:
        rest = held - sells
        sells -= change
    return Sizes(abs(rest), abs(rest + change), added, others + excess(held, buys, sells))
