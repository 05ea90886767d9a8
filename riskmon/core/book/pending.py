"""What the reserved orders add up to, by symbol and venue. Derived from the reservations.

An order whose side is not known counts on both. In the worst case only one side is filled, so the
order never counts twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.instruments import instrument
from riskmon.core.book.money import SCALE
from riskmon.core.decisions import DifferenceKind, LevelName
from riskmon.core.scopes import Scope, kind_of, name_of


class Amounts(Struct, frozen=True, gc=False):
    """Sums over orders: base units or contracts, and the reference."""

    quantity: float
    notional: float

    def plus(self, other: Amounts) -> Amounts:
        """Return these and other amounts."""
        return Amounts(self.quantity + other.quantity, self.notional + other.notional)

    def without(self, other: Amounts) -> Amounts:
        """Return these less other amounts."""
        return Amounts(self.quantity - other.quantity, self.notional - other.notional)


NOTHING = Amounts(0.0, 0.0)


class Executed(Struct):
    """What a report says was executed of an order in all; its fills are awaited since then."""

    quantity: float
    since_ns: int
    assumed: bool = False  # the report ended the order, and did not say how much


class OrderDifference(NamedTuple):
    """What one report says of an order and no other does within ``check_ttl``."""

    venue: str
    kind: DifferenceKind
    text: str


class Reservation(Struct):
    """An order that is permitted, or rests, or whose fills are awaited.

    Amounts are of the whole ``quantity``, except those that say of which part.
    """

    venue: str
    symbol: str
    side: ev.Side | None  # None: no report names it
    quantity: float  # in base units or contracts
    notional: float | None  # in the reference; None: it was unknown
    filled: float = 0.0  # the part that fills report
    executed: float = field(default=0.0, name="told")  # the part that reports of the order say
    filled_before: float = 0.0  # by its fills before it was checked again, as a change
    id: str = ""  # of the check, or else the venue's; earlier snapshots have none
    order_id: str | None = None  # the venue's, of an order that was checked with its client's
    base: float | None = None  # in the base asset
    # The symbol whose position it moves: a spot order moves a holding whatever its quote. None: its
    # own.
    position: str | None = None
    leg: ev.Leg | None = None
    strategy: str | None = None
    reduce_only: bool = False
    began_ns: int = 0  # when it was permitted or first reported
    reported_ns: int | None = None  # the time of the newest report of it; None: there is none
    awaited: list[Executed] = field(default_factory=list)  # oldest first
    lapsed: float = 0.0  # the part of `executed` whose fills did not come in time
    ended_ns: int | None = None  # when a report closed it, or the last fill came
    check: ev.Check | None = None  # as it was permitted
    level: LevelName = "allow"  # of its scopes then
    named: bool = False  # by an `order` event
    missing: bool = False  # an `orders` event did not list it while it was said to rest
    listed_ns: int | None = None  # since when an `orders` event alone names it; None: counted

    @property
    def left(self) -> float:
        """The part that counts: what rests, and what was executed and is not filled yet."""
        quantity = self.quantity
        left = quantity if self.ended_ns is None else self.executed
        if self.filled or self.lapsed:
            left -= max(self.filled, self.lapsed)
        return left if left > quantity * _USED_UP else 0.0

    @property
    def amounts(self) -> Amounts:
        """The amounts of what is left."""
        left, quantity, notional = self.left, self.quantity, self.notional or 0.0
        if left != quantity:
            notional *= left / quantity if quantity else 0.0
        return Amounts(left, notional)

    @property
    def left_base(self) -> float:
        """What is left, in the base asset."""
        part = self.left / self.quantity if self.quantity else 0.0
        return (self.base or 0.0) * part

    @property
    def counts(self) -> bool:
        """Whether it rests, or anything of it is reserved."""
        return self.ended_ns is None or self.left > 0

    def is_in(self, scope: Scope) -> bool:
        """Whether it is an order of a scope."""
        kind, name = kind_of(scope), name_of(scope)
        names = {
            "account": name,
            "venue": self.venue,
            "symbol": self.symbol,
            "asset": instrument(self.symbol, "").base,
            "strategy": self.strategy,
        }
        return names[kind] == name

    def resize(self, quantity: float) -> None:
        """Set the whole quantity; the amounts follow."""
        if self.quantity:
            ratio = quantity / self.quantity
            self.notional = None if self.notional is None else self.notional * ratio
            self.base = None if self.base is None else self.base * ratio
        self.quantity = quantity

    def correct_end(self, quantity: float | None, remaining: float) -> None:
        """Set how much was executed, after the report that ended it did not say it."""
        whole = self.quantity if quantity is None else quantity
        self.executed = min(self.executed, max(0.0, whole - remaining))
        for one in self.awaited:
            one.quantity = min(one.quantity, self.executed)

    def may_be_named_by(self, report: ev.RestingOrder) -> bool:
        """Whether it was checked without an id, and a report may be the first that names it."""
        return (
            self.id.startswith("\n")
            and self.reported_ns is None
            and report.side in (None, self.side)
            and report.quantity is not None
            and abs(self.quantity - report.quantity) <= self.quantity * _USED_UP
        )

    def lapse(self, before_ns: int) -> float:
        """End the waits for fills that began before a time; return what no fill reports of it.

        What a report did not say to be executed is not part of that.
        """
        known, unfilled = max(self.filled, self.lapsed), 0.0
        while self.awaited and self.awaited[0].since_ns <= before_ns:
            one = self.awaited.pop(0)
            self.lapsed = max(self.lapsed, one.quantity)
            if not one.assumed:
                unfilled = one.quantity - known
        return unfilled

    def rests_as(self, quantity: float | None, remaining: float | None) -> bool:
        """Whether a report that it rests, with so much of it, changes nothing."""
        if self.ended_ns is not None or remaining is None:
            return True
        if self.filled_before or quantity not in (None, self.quantity):
            return False
        return remaining <= self.quantity and self.quantity - remaining <= self.executed

    def waits_since(self, at_ns: int) -> bool:
        """Whether its wait for a report, for fills, or to be dropped began then."""
        if self.ended_ns is None and self.reported_ns is None:
            return self.began_ns == at_ns
        if at_ns in (self.ended_ns, self.listed_ns):
            return True
        return any(one.since_ns == at_ns for one in self.awaited)

    @property
    def moves(self) -> str:
        """The symbol whose position it moves."""
        return self.position or self.symbol

    @property
    def key(self) -> str:
        """The key of the order: ids are those of a venue."""
        return f"{self.venue}|{self.id}"


_USED_UP = 1e-9  # of its quantity: a smaller rest is the rounding of floats


class _Sum:
    """The orders of one side. Integers of a fixed scale: their order makes no difference."""

    __slots__ = ("notional", "quantity")

    def __init__(self) -> None:
        self.quantity = self.notional = 0

    def add(self, amounts: Amounts, sign: int) -> None:
        self.quantity += sign * int(amounts.quantity * SCALE)
        self.notional += sign * int(amounts.notional * SCALE)

    def amounts(self) -> Amounts:
        if not (self.quantity or self.notional):
            return NOTHING
        return Amounts(self.quantity / SCALE, self.notional / SCALE)


class _AtVenue:
    """The orders that move the position in a symbol at one venue, the oldest first."""

    __slots__ = ("buys", "orders", "sells")

    def __init__(self) -> None:
        self.orders: dict[str, Reservation] = {}
        self.buys, self.sells = _Sum(), _Sum()


class Pending:
    """The reserved orders, and their sums by the position that they move: its symbol and venue."""

    def __init__(self) -> None:
        self._symbols: dict[str, dict[str, _AtVenue]] = {}
        self._named: dict[str, dict[str, Reservation]] = {}  # by their own symbol, oldest first
        self._of_asset: dict[str, set[str]] = {}  # asset -> symbols that were named
        self._unindexed: dict[str, None] = {}  # symbols that are named and not there yet
        self._resting: dict[str, int] = {}  # by venue
        self._resting_in: dict[str, int] = {}  # by their own symbol
        self.resting = 0  # how many orders are not closed
        self.changed: dict[str, None] = {}  # symbols; `Commitments.refresh` empties it
        self.recounted: dict[str, None] = {}  # own symbols; the reader empties it

    def add(self, order: Reservation) -> None:
        """Count an order, if it counts. It must not change before :meth:`remove`."""
        if not order.counts:
            self._drop(order)
            return
        moves, venue, key = order.moves, order.venue, order.key
        venues = self._symbols.get(moves)
        if venues is None:
            venues = self._symbols[moves] = {}
        here = venues.get(venue)
        if here is None:
            here = venues[venue] = _AtVenue()
        named = self._named.get(order.symbol)
        if named is None:
            named = self._named[order.symbol] = {}
            self._unindexed[order.symbol] = None
        named[key] = here.orders[key] = order  # one that was removed keeps its place
        self._count(here, order, 1)

    def drop(self, order: Reservation) -> None:
        """Take an order off, for good."""
        self.remove(order)
        self._drop(order)

    def _drop(self, order: Reservation) -> None:
        venues, named = self._symbols.get(order.moves, {}), self._named.get(order.symbol, {})
        here = venues.get(order.venue)
        if here is not None:
            here.orders.pop(order.key, None)
            if not here.orders:
                del venues[order.venue]
                if not venues:
                    del self._symbols[order.moves]
        if named.pop(order.key, None) is not None and not named:
            del self._named[order.symbol]

    def remove(self, order: Reservation) -> None:
        """Take an order off the sums; :meth:`add` follows when it is changed."""
        here = self._symbols.get(order.moves, {}).get(order.venue)
        if here is not None and order.key in here.orders:
            self._count(here, order, -1)

    def _count(self, here: _AtVenue, order: Reservation, sign: int) -> None:
        amounts = order.amounts
        if order.side != "sell":
            here.buys.add(amounts, sign)
        if order.side != "buy":
            here.sells.add(amounts, sign)
        if order.ended_ns is None:
            symbol, venue = order.symbol, order.venue
            self._resting[venue] = self._resting.get(venue, 0) + sign
            self._resting_in[symbol] = self._resting_in.get(symbol, 0) + sign
            self.resting += sign
            self.recounted[symbol] = None
        self.changed[order.moves] = None

    # -- queries ----------------------------------------------------------------------------------

    def symbols(self) -> Iterator[str]:
        """The symbols that orders name."""
        return iter(self._named)

    def symbols_of(self, asset: str) -> list[str]:
        """The symbols of the orders that buy or sell an asset, or pay with it, sorted."""
        for symbol in self._unindexed:
            for one in _assets(symbol):
                self._of_asset.setdefault(one, set()).add(symbol)
        self._unindexed.clear()
        return sorted(one for one in self._of_asset.get(asset, ()) if one in self._named)

    def named(self, symbol: str) -> Collection[Reservation]:
        """The orders that name a symbol, the oldest first."""
        return self._named.get(symbol, {}).values()

    def sides(self, symbol: str) -> tuple[Amounts, Amounts] | None:
        """The buys and the sells that move the position in a symbol, at all venues."""
        venues = self._symbols.get(symbol)
        if venues is None:
            return None
        if len(venues) == 1:
            (here,) = venues.values()
            return here.buys.amounts(), here.sells.amounts()
        return _total([one.buys for one in venues.values()]), _total(
            [one.sells for one in venues.values()]
        )

    def sides_at(self, symbol: str, venue: str) -> tuple[Amounts, Amounts]:
        """The buys and the sells that move the position in a symbol at one venue."""
        here = self._symbols.get(symbol, {}).get(venue)
        return (NOTHING, NOTHING) if here is None else (here.buys.amounts(), here.sells.amounts())

    def orders(self, symbol: str, venue: str) -> list[Reservation]:
        """The orders that move the position in a symbol at a venue, the oldest first."""
        here = self._symbols.get(symbol, {}).get(venue)
        return [] if here is None else list(here.orders.values())

    def all(self) -> list[Reservation]:
        """All orders."""
        return [
            order
            for venues in self._symbols.values()
            for here in venues.values()
            for order in here.orders.values()
        ]

    def orders_at(self, venue: str) -> list[Reservation]:
        """All orders at a venue."""
        return [order for order in self.all() if order.venue == venue]

    def venues(self, symbol: str) -> Collection[str]:
        """The venues at which orders move the position in a symbol."""
        return self._symbols.get(symbol, ())

    def resting_at(self, venue: str) -> int:
        """How many orders at a venue are not closed."""
        return self._resting.get(venue, 0)

    def resting_in(self, symbol: str) -> int:
        """How many orders in a symbol are not closed."""
        return self._resting_in.get(symbol, 0)


def _total(sums: list[_Sum]) -> Amounts:
    return Amounts(
        sum(one.quantity for one in sums) / SCALE,
        sum(one.notional for one in sums) / SCALE,
    )


def _assets(symbol: str) -> tuple[str, ...]:
    """The assets that an order in a symbol buys or sells, and pays with."""
    kind, base, quote, _ = instrument(symbol, "")
    return (base, quote) if kind == "spot" and quote != base else (base,)
