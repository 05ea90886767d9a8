"""The input of state, size and order limits: the book, the orders, and the last reports.

Times are engine time unless their name says wall.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.commitments import Commitments, committed, excess
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


class Sizes(Struct, frozen=True):
    """Sizes before and after an order, as large as the orders that rest may make them.

    ``symbol`` is the net size of the order's symbol, ``total`` the sum over all symbols.
    """

    symbol: Size
    total: Size | Unknown


_NO_SIZES = Sizes((0.0, 0.0), (0.0, 0.0))


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
    quantities: Sizes = _NO_SIZES  # in base units or contracts
    notionals: Sizes | Unknown = _NO_SIZES  # in the reference
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
        if type(mark) is Unknown:
            return mark if order.price is None else order.price
        slippage = SLIPPAGE if order.slippage is None else order.slippage
        return mark * (1 + slippage if order.side == "buy" else 1 - slippage)

    def worth(
        self, venue: str, symbol: str, side: Side | None, price: float | Unknown
    ) -> OrderWorth:
        """What one unit of an order's quantity is worth; of a sale, at the mark if it is higher."""
        book, what = self.book, instrument(symbol, self.book.reference)
        size, rate = book.contract_size(venue, symbol), book.rate(what.quote)
        if type(size) is Unknown:
            return OrderWorth(size, size)
        if what.kind == "inverse":
            base = price if type(price) is Unknown else size / price
            return OrderWorth(rate if type(rate) is Unknown else size * rate, base)
        if side != "buy" and type(price) is not Unknown:
            mark = book.mark(symbol, venue)
            price = mark if type(mark) is Unknown else max(price, mark)
        if type(rate) is Unknown:
            return OrderWorth(rate, size)
        return OrderWorth(price if type(price) is Unknown else size * price * rate, size)

    # -- an order that is checked -----------------------------------------------------------------

    def intent(self, order: Check) -> Intent:
        """The order as a change of positions."""
        venue, symbol, quantity = order.venue, order.symbol, order.quantity
        if quantity is None:
            quantity = abs(self.book.held(venue, symbol, order.leg))
        if order.side == "sell":
            quantity = -quantity
        price = self.price(order)
        worth = self.worth(venue, symbol, order.side, price)
        each = worth.notional
        intent = Intent(
            order=order,
            symbol=self.book.position_symbol(venue, symbol),
            quantity=quantity,
            price=price,
            worth=worth,
            notional=each if type(each) is Unknown else each * quantity,
            earlier=self.orders.find(venue, order.id) if order.id is not None else None,
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
        exposures, commitments, symbol = self.book.exposures, self.commitments, intent.symbol
        held, own, earlier = exposures.of(symbol), commitments.of(symbol), intent.earlier
        quantity, notional = commitments.quantity, commitments.notional
        other_quantity, other_notional = quantity - own.quantity, notional - own.notional
        if earlier is not None and earlier.counts:
            own = committed(held, *self.without_earlier(own.buys, own.sells, symbol, intent))
            quantity = other_quantity + own.quantity
            notional = other_notional + own.notional
        buys, sells = own.buys, own.sells
        intent.quantities = _sizes(
            held.quantity,
            buys.quantity,
            sells.quantity,
            intent.quantity,
            exposures.gross_quantity(),
            quantity,
            other_quantity,
        )
        if type(intent.notional) is Unknown:
            intent.notionals = intent.notional
        elif held.unknown is not None:
            intent.notionals = held.unknown
        else:
            intent.notionals = _sizes(
                held.notional,
                buys.notional,
                sells.notional,
                intent.notional,
                exposures.gross_notional(),
                notional,
                other_notional,
            )


def _sizes(  # noqa: PLR0917 -- a formula, and by far the most called
    held: float,
    buys: float,
    sells: float,
    change: float,
    gross: float | Unknown,
    added: float,
    others: float,
) -> Sizes:
    """Return the sizes before and after a change of ``held``.

    ``gross`` is the sum over all symbols. The orders that rest may add ``added`` to it, those of
    other symbols ``others``.
    """
    if change > 0:
        rest = held + buys
        buys += change
    else:
        rest = held - sells
        sells -= change
    symbol = (abs(rest), abs(rest + change))
    if type(gross) is Unknown:
        return Sizes(symbol, gross)
    return Sizes(symbol, (gross + added, gross + (others + excess(held, buys, sells))))
