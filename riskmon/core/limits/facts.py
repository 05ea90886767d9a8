"""The input of state, size and order limits: the book, permitted orders, and the last reports.

Times are engine time unless their name says wall.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from riskmon.core.book.commitments import Commitments, excess
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.reservations import Pending, Reservation, Reservations
from riskmon.core.clock import Clock
from riskmon.core.events import Check
from riskmon.core.limits.metrics import Metrics
from riskmon.core.scopes import Scope
from riskmon.core.unknown import Unknown


class EdgeReport(Struct):
    """The last edge of a strategy or of the account, in basis points."""

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

    ``earlier`` is what its id has reserved already: the order takes its place.
    """

    order: Check
    symbol: str
    quantity: float
    notional: float | Unknown
    earlier: Reservation | None
    quantities: Sizes  # in base units or contracts
    notionals: Sizes | Unknown  # in the reference


@dataclass(slots=True)
class Facts:
    """All that was reported, at one instant."""

    book: Portfolio
    orders: Reservations
    commitments: Commitments
    metrics: Metrics
    edges: dict[str, EdgeReport]  # by strategy, "" for the account
    last_event_ns: dict[str, dict[str, int]]  # venue -> type of event -> time
    last_heartbeat_ns: dict[str, int]  # strategy -> time; none after a final one
    first_event_ns: dict[Scope, int]  # scope -> time, 0: none yet
    started_ns: int  # the last start
    edge_max_age_ns: int
    sized: bool  # whether any limit needs the sizes of orders
    clock: Clock

    @property
    def now_ns(self) -> int:
        """The engine time of the step."""
        return self.clock.instant.now_ns

    def intent(self, order: Check) -> Intent:
        """The order as a change of positions."""
        symbol, quantity = order.symbol, float(order.quantity)
        notional = self.book.order_notional(order)
        earlier = self.orders.earlier(order) if order.id is not None else None
        if order.side == "sell":
            quantity = -quantity
            notional = notional if isinstance(notional, Unknown) else -notional
        if not self.sized:
            return Intent(order, symbol, quantity, notional, earlier, _NO_SIZES, _NO_SIZES)
        quantities = self._quantities(symbol, quantity, earlier)
        known = self.book.exposures.net_notional(symbol)
        notionals: Sizes | Unknown
        if isinstance(notional, Unknown):
            notionals = notional
        elif isinstance(known, Unknown):
            notionals = known
        else:
            notionals = self._notionals(symbol, notional, earlier)
        return Intent(order, symbol, quantity, notional, earlier, quantities, notionals)

    def _quantities(self, symbol: str, change: float, earlier: Reservation | None) -> Sizes:
        held = self.book.exposures.of(symbol).quantity
        own, total = self.commitments.of(symbol).quantity, self.commitments.state.quantity
        pending = self.orders.pending.get(symbol) or _NO_PENDING
        buys, sells = pending.buys.value, pending.sells.value
        others = total.value - own
        if earlier is not None:
            buys, sells = _without(buys, sells, earlier, earlier.left)
            own = excess(held, buys, sells)
        return _sizes(held, buys, sells, change, own, others)

    def _notionals(self, symbol: str, change: float, earlier: Reservation | None) -> Sizes:
        held = self.book.exposures.of(symbol).notional
        own, total = self.commitments.of(symbol).notional, self.commitments.state.notional
        pending = self.orders.pending.get(symbol) or _NO_PENDING
        buys, sells = pending.buys_notional.value, pending.sells_notional.value
        others = total.value - own
        if earlier is not None:
            left = (earlier.notional or 0.0) * earlier.left / earlier.quantity
            buys, sells = _without(buys, sells, earlier, left)
            own = excess(held, buys, sells)
        return _sizes(held, buys, sells, change, own, others)


_NO_SIZES = Sizes(0.0, 0.0, 0.0, 0.0)
_NO_PENDING = Pending()


def _without(buys: float, sells: float, earlier: Reservation, left: float) -> tuple[float, float]:
    return (buys - left, sells) if earlier.side == "buy" else (buys, sells - left)


def _sizes(  # noqa: PLR0917 -- a formula, and by far the most called
    held: float, buys: float, sells: float, change: float, own: float, others: float
) -> Sizes:
    """``own`` and ``others``: what the resting orders of this and of all other symbols may add."""
    if change > 0:
        rest = held + buys
        buys += change
    else:
        rest = held - sells
        sells -= change
    then = others + excess(held, buys, sells)
    return Sizes(abs(rest), abs(rest + change), others + own, then)
