"""The input of state, size and order limits: the book, the orders, and the last reports.

Times are engine time unless their name says wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.commitments import Commitments, excess
from riskmon.core.book.instruments import instrument
from riskmon.core.book.pending import Amounts, Reservation
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.reservations import OrderWorth, Reservations
from riskmon.core.clock import Clock
from riskmon.core.events import Check, Side
from riskmon.core.limits.metrics import Metrics
from riskmon.core.scopes import Scope
from riskmon.core.unknown import Unknown

SLIPPAGE = 0.01  # of a market order, as a ratio of the mark
_ROUNDING = 1.0 + 1e-9


class EdgeReport(Struct):
    """The last edge of a strategy or of the account, in basis points."""

    bps: float
    at_ns: int
    wall_ns: int


Size = tuple[float, float]  # before and after an order


class Sizes(NamedTuple):
    """Sizes before and after an order, as large as the orders that rest may make them.

    ``symbol`` is the net size of the order's symbol, ``total`` the sum over all symbols.
    """

    symbol: Size
    total: Size | Unknown


class Closing(Struct, frozen=True):
    """What an order may close: the position at its venue, signed, and what is reserved to close it.

    ``reduces``: with the reserved orders of its side, the order can do no more than close.
    """

    held: float
    reserved: float
    reduces: bool


class Intent(Struct):
    """An order that is being checked; ``quantity`` and ``notional`` (reference) are signed.

    ``symbol`` is that of the position that it moves: a spot order moves a holding whatever its
    quote. ``earlier`` is what its id has reserved already: the order takes its place.
    """

    order: Check
    symbol: str
    quantity: float
    price: float | Unknown  # of a market order, what it may cost
    worth: OrderWorth
    notional: float | Unknown
    earlier: Reservation | None
    quantities: Sizes  # in base units or contracts
    notionals: Sizes | Unknown  # in the reference
    closing: Closing | None = None  # once it is computed

    @property
    def is_new(self) -> bool:
        """Whether one order more would rest."""
        return self.earlier is None or self.earlier.ended_ns is not None


@dataclass(slots=True)
class Facts:
    """All that was reported, at one instant."""

    book: Portfolio
    orders: Reservations
    commitments: Commitments
    calendar: Calendar
    metrics: Metrics
    edges: dict[str, EdgeReport]  # by strategy, "" for the account
    last_event_ns: dict[str, dict[str, int]]  # venue -> type of event -> time
    last_symbol_event_ns: dict[str, dict[str, int]]  # symbol -> type of event -> time
    last_heartbeat_ns: dict[str, int]  # strategy -> time; none after a final one
    first_event_ns: dict[Scope, int]  # scope -> time, 0: none yet
    started_ns: int  # the last start
    edge_max_age_ns: int
    sized: bool  # whether any limit needs the sizes of orders
    by_asset: bool  # whether any limit is over assets
    clock: Clock

    @property
    def now_ns(self) -> int:
        """The engine time of the step."""
        return self.clock.instant.now_ns

    @property
    def wall_ns(self) -> int:
        """The date of the step."""
        return self.clock.instant.wall_ns

    # -- what an order is worth -------------------------------------------------------------------

    def price(self, order: Check) -> float | Unknown:
        """The price of an order; of a market order, the mark and its slippage."""
        if order.price is not None and order.order_type == "limit":
            return order.price
        mark = self.book.mark(order.symbol, order.venue)
        if isinstance(mark, Unknown):
            return mark if order.price is None else order.price
        slippage = SLIPPAGE if order.slippage is None else order.slippage
        return mark * (1 + slippage if order.side == "buy" else 1 - slippage)

    def worth(
        self, venue: str, symbol: str, side: Side | None, price: float | Unknown
    ) -> OrderWorth:
        """What one unit of an order's quantity is worth; of a sale, at the mark if it is higher."""
        book, what = self.book, instrument(symbol, self.book.reference)
        size, rate = book.contract_size(venue, symbol), book.rate(what.quote)
        if isinstance(size, Unknown):
            return OrderWorth(size, size)
        if what.kind == "inverse":
            base = price if isinstance(price, Unknown) else size / price
            return OrderWorth(rate if isinstance(rate, Unknown) else size * rate, base)
        if side != "buy" and not isinstance(price, Unknown):
            mark = book.mark(symbol, venue)
            price = mark if isinstance(mark, Unknown) else max(price, mark)
        if isinstance(rate, Unknown):
            return OrderWorth(rate, size)
        return OrderWorth(price if isinstance(price, Unknown) else size * price * rate, size)

    # -- an order that is checked -----------------------------------------------------------------

    def intent(self, order: Check) -> Intent:
        """The order as a change of positions."""
        price, quantity = self.price(order), order.quantity
        if quantity is None:
            quantity = abs(self.book.held(order.venue, order.symbol, order.leg))
        if order.side == "sell":
            quantity = -quantity
        worth = self.worth(order.venue, order.symbol, order.side, price)
        symbol = self.book.position_symbol(order.venue, order.symbol)
        each = worth.notional
        notional = each if isinstance(each, Unknown) else each * quantity
        earlier = self.orders.find(order.venue, order.id) if order.id is not None else None
        intent = Intent(
            order, symbol, quantity, price, worth, notional, earlier, _NO_SIZES, _NO_SIZES
        )
        if self.sized:
            self._set_sizes(intent)
        return intent

    def closing(self, intent: Intent) -> Closing:
        """What an order may close."""
        if intent.closing is None:
            order = intent.order
            held = self.book.held(order.venue, order.symbol, order.leg)
            # A venue lets no order close more of a contract than is held, if it is flagged so.
            flagged = order.reduce_only or order.close_position
            flagged = flagged and instrument(order.symbol, self.book.reference).kind != "spot"
            reserved = self.orders.left(order, intent.symbol, reducing=not flagged)
            against = held < 0 if order.side == "buy" else held > 0
            most = abs(held) * _ROUNDING
            reduces = against and abs(intent.quantity) + reserved <= most
            intent.closing = Closing(held, reserved, reduces)
        return intent.closing

    @staticmethod
    def without_earlier(
        buys: Amounts, sells: Amounts, symbol: str, intent: Intent | None
    ) -> tuple[Amounts, Amounts]:
        """Return the buys and the sells that move a position without the order that is replaced."""
        earlier = intent.earlier if intent is not None else None
        if earlier is None or earlier.moves != symbol or not earlier.counts:
            return buys, sells
        own = earlier.amounts
        return (
            buys.without(own) if earlier.side != "sell" else buys,
            sells.without(own) if earlier.side != "buy" else sells,
        )

    def _set_sizes(self, intent: Intent) -> None:
        exposures, committed = self.book.exposures, self.commitments
        held, own = exposures.of(intent.symbol), committed.of(intent.symbol)
        earlier, notional = intent.earlier, intent.notional
        buys, sells = own.buys, own.sells
        replaces = earlier is not None and earlier.counts
        if replaces:
            buys, sells = self.without_earlier(buys, sells, intent.symbol, intent)
        intent.quantities = _sizes(
            *(held.quantity, buys.quantity, sells.quantity, intent.quantity),
            *(committed.quantity, own.quantity, exposures.gross_quantity()),
            replaces=replaces,
        )
        if isinstance(notional, Unknown):
            intent.notionals = notional
        elif held.unknown is not None:
            intent.notionals = held.unknown
        else:
            intent.notionals = _sizes(
                *(held.notional, buys.notional, sells.notional, notional),
                *(committed.notional, own.notional, exposures.gross_notional()),
                replaces=replaces,
            )


_NO_SIZES = Sizes((0.0, 0.0), (0.0, 0.0))


def _sizes(  # noqa: PLR0917 -- a formula, and by far the most called
    held: float,
    buys: float,
    sells: float,
    change: float,
    added: float,
    own: float,
    gross: float | Unknown,
    *,
    replaces: bool,
) -> Sizes:
    """Return the sizes before and after a change of ``held``.

    ``added`` and ``own``: what the orders of all symbols, and of this one, may add; ``gross``: the
    sum over all symbols without orders. ``replaces``: ``buys`` and ``sells`` are without an order
    that counts in ``added`` and ``own``.
    """
    others = added - own
    before = others + excess(held, buys, sells) if replaces else added
    if change > 0:
        rest = held + buys
        buys += change
    else:
        rest = held - sells
        sells -= change
    symbol = (abs(rest), abs(rest + change))
    if isinstance(gross, Unknown):
        return Sizes(symbol, gross)
    return Sizes(symbol, (gross + before, gross + (others + excess(held, buys, sells))))
