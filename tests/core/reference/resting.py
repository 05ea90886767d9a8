"""The orders that were admitted or rest, read anew from the list of what happened to them.

They count on their own side: of orders that rest on both sides only one may be filled, so the worse
is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction as F
from typing import Any, NamedTuple

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig
from tests.core.reference.history import SECOND, read_symbol
from tests.core.reference.standing import Book, remembered

ALLOW = 3


class Asked(NamedTuple):
    """An order that was checked and not simulated, and its notional then."""

    order: ev.Check
    notional: F | None
    admitted: bool
    number: int
    level: int


class Reported(NamedTuple):
    """A report of an order, and its notional then."""

    event: ev.Order
    notional: F | None


@dataclass
class Resting:
    """All that happened to one order. Amounts are of its whole quantity."""

    venue: str
    symbol: str
    side: str | None  # None: either
    quantity: F
    notional: F | None
    since: int
    asked: ev.Check | None  # as it was admitted
    level: int = ALLOW
    reduce_only: bool = False
    heard: int | None = None  # the last report of it
    filled: F = F(0)  # by its fills
    told: list[tuple[int, F]] = field(default_factory=list)  # when, and how much was executed
    over: int | None = None  # since when nothing of it rests

    def executed(self, before: int) -> F:
        """The most that reports up to a time say was executed."""
        return max((amount for at, amount in self.told if at <= before), default=F(0))

    def left(self, now: int, ttl: int) -> F:
        """What rests, and what was executed within the time to live and has not come as a fill."""
        whole = self.quantity if self.over is None else self.executed(now)
        return max(F(0), whole - max(self.filled, self.executed(now - ttl)))


class Orders:
    """All orders of an account."""

    def __init__(self, config: EngineConfig, book: Book) -> None:
        self.config = config
        self.book = book
        self.happened: list[tuple[int, Any]] = []  # events and orders that were asked for

    @property
    def answers(self) -> dict[Any, Any]:
        """What is remembered until something is told or time moves."""
        return self.book.answers

    @property
    def ttl(self) -> int:
        """How long what is not heard of counts."""
        return round(self.config.check_ttl * SECOND)

    @remembered
    def known(self) -> dict[tuple[str, str], Resting]:
        """The orders that are remembered now, by venue and id."""
        found: dict[tuple[str, str], Resting] = {}
        for at, what in self.happened:
            self._forget(found, at)
            if isinstance(what, Asked):
                if what.admitted:
                    self._admit(found, at, what)
            elif isinstance(what, Reported):
                self._hear(found, at, what)
            elif isinstance(what, ev.OpenOrders) and what.count == 0:
                for one in found.values():
                    heard = one.venue == what.venue and one.heard is not None and one.heard < at
                    if heard and one.over is None:
                        one.over = at
            elif isinstance(what, ev.Fill):
                self._fill(found, at, what)
            self._end_filled(found, at)
        self._forget(found, self.book.now)
        return found

    def resting(self) -> dict[tuple[str, str], Resting]:
        """The orders that count now: of which something is left."""
        now = self.book.now
        return {name: one for name, one in self.known().items() if one.left(now, self.ttl) > 0}

    def _admit(self, found: dict[tuple[str, str], Resting], at: int, asked: Asked) -> None:
        order, quantity = asked.order, F(asked.order.quantity or 0)
        name = (order.venue, order.id or f"\n{asked.number}")
        earlier = found.pop(name, None)
        found[name] = Resting(
            *(order.venue, order.symbol, order.side, quantity, asked.notional, at, order),
            level=asked.level,
            reduce_only=order.reduce_only,
            heard=earlier.heard if earlier is not None and earlier.over is None else None,
        )

    def _forget(self, found: dict[tuple[str, str], Resting], now: int) -> None:
        self._end_filled(found, now)
        for name, one in list(found.items()):
            silent = one.over is None and one.heard is None and now >= one.since + self.ttl
            over = one.over is not None and now >= one.over + self.ttl
            if silent or (over and not one.left(now, self.ttl)):
                del found[name]

    def _end_filled(self, found: dict[tuple[str, str], Resting], now: int) -> None:
        """An order of which nothing is left is over, from the instant at which that became so."""
        for one in found.values():
            if one.over is None and one.left(now, self.ttl) == 0:
                lapses = [at + self.ttl for at, amount in one.told if amount >= one.quantity]
                one.over = now if one.filled >= one.quantity else min(lapses)
                one.told.append((one.over, one.quantity))

    def _hear(self, found: dict[tuple[str, str], Resting], at: int, report: Reported) -> None:
        event = report.event
        one = found.get((event.venue, event.id))
        if one is None:
            if event.status != "open":
                return
            quantity = F(event.quantity or 0)
            one = found[event.venue, event.id] = Resting(
                *(event.venue, event.symbol, event.side, quantity),
                *(report.notional, at, None),
            )
        one.heard = at
        if one.over is not None:  # a later report of the end may say that less was executed
            if event.status != "open" and event.remaining is not None:
                most = max(F(0), one.quantity - F(event.remaining))
                one.told = [(when, min(amount, most)) for when, amount in one.told]
            return
        if event.status != "open" and event.remaining is None:
            one.told.append((at, one.quantity))
        elif event.remaining is not None:
            remaining = F(event.remaining)
            if remaining > one.quantity:  # it was made larger at the venue
                larger = remaining + max(one.filled, one.executed(at))
                if one.notional is not None:
                    one.notional *= larger / one.quantity
                one.quantity = larger
            one.told.append((at, one.quantity - remaining))
        one.over = None if event.status == "open" else at

    def _fill(self, found: dict[tuple[str, str], Resting], at: int, event: ev.Fill) -> None:
        if event.order_id is not None:
            one = found.get((event.venue, event.order_id))
            if one is not None:
                one.heard = at
                one.filled += F(event.quantity)
            return
        rest = F(event.quantity)
        for one in found.values():  # the oldest first
            left = one.left(at, self.ttl)
            where = (one.venue, one.symbol) == (event.venue, event.symbol)
            if where and one.side in (event.side, None) and left:
                filled = min(rest, left)
                one.filled += filled
                rest -= filled

    def reserved(self, symbol: str, side: str, order: ev.Check, *, money: bool = False) -> F:
        """What is reserved on one side of a symbol, without the order itself."""
        amount = F(0)
        for name, one in self.resting().items():
            same = name == (order.venue, order.id) and one.symbol == order.symbol
            if one.symbol == symbol and one.side in (side, None) and not same:
                # One whose notional could not be told when it was admitted counts for none.
                each = (one.notional or F(0)) / one.quantity if money else F(1)
                amount += one.left(self.book.now, self.ttl) * each
        return amount

    # -- what they add up to --------------------------------------------------------------------

    def on_its_side(self, order: ev.Check) -> F:
        """What is reserved there; a venue lets no order flip a contract that is flagged so."""
        spot = read_symbol(order.symbol, self.config.portfolio.reference).kind == "spot"
        return sum(
            (
                one.left(self.book.now, self.ttl)
                for name, one in self.resting().items()
                if (one.venue, one.symbol) == (order.venue, order.symbol)
                and one.side in (order.side, None)
                and name != (order.venue, order.id)
                and not (order.reduce_only and one.reduce_only and not spot)
            ),
            F(0),
        )

    def open_at(self, scope: str) -> int:
        kind, _, name = scope.partition(":")
        return sum(
            one.over is None
            and name in {"account": name, "venue": one.venue, "symbol": one.symbol}[kind]
            for one in self.known().values()
        )

    def sides(self, symbol: str) -> tuple[F, F]:
        sides = {"buy": F(0), "sell": F(0)}
        for one in self.resting().values():
            for side in sides if one.symbol == symbol else ():
                if one.side in (side, None):
                    sides[side] += one.left(self.book.now, self.ttl)
        return sides["buy"], sides["sell"]

    # -- what they are worth --------------------------------------------------------------------

    def notional_of(self, event: ev.Order) -> F | None:
        quantity, price = F(event.quantity or 0), F(event.price or 0)
        return self.worth(event.venue, event.symbol, event.side, quantity, price)

    def order_notional(self, order: ev.Check) -> F | None:
        """At its own price, a sale at the mark if that is higher, in the reference."""
        quantity, price = F(order.quantity or 0), F(order.price or 0)
        return self.worth(order.venue, order.symbol, order.side, quantity, price)

    def worth(self, venue: str, symbol: str, side: str | None, quantity: F, price: F) -> F | None:
        what = read_symbol(symbol, self.config.portfolio.reference)
        size, worth = self.book.size(venue, symbol), self.book.worth(what.quote)
        if size is None or worth is None:
            return None
        if what.kind == "inverse":
            return quantity * size * worth
        if side != "buy":
            mark = self.book.mark(symbol, venue)
            if mark is None:
                return None
            price = max(price, mark)
        return quantity * size * price * worth
