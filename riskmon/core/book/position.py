"""One position at average cost.

Formulas (q signed quantity, s contract size, e entry price, m mark price, p fill price):

* linear and spot, in the settle (quote) asset: unrealised ``q s (m - e)``; a fill of the opposite
  side realises ``closed s (p - e)`` with the sign of the position; the entry is the mean of the
  prices weighted by quantity.
* inverse, in the settle (base) asset: unrealised ``q s (1/e - 1/m)``, realised likewise; the entry
  is the harmonic mean, because the contracts are sized in the quote currency.
"""

from __future__ import annotations

from functools import lru_cache
from math import fsum
from typing import Literal, NamedTuple

from msgspec import Struct, field

from riskmon.core.book.ledger import LedgerState
from riskmon.core.scopes import NAMES

Leg = Literal["", "long", "short"]  # "" outside hedge mode

# A quantity this small relative to the last change is the rounding of binary floats, not a
# position: 0.1 + 0.2 - 0.3 leaves 5.6e-17.
_ROUNDING = 1e-12
_CARRIED = 1e-14  # what a close realises is rounding below this ratio of what it pays
_MARKS = 64


class Key(NamedTuple):
    """What a position is of; the ``strategy`` of the account's own is ""."""

    venue: str
    symbol: str
    leg: Leg
    strategy: str

    @property
    def name(self) -> str:
        """The key in snapshots."""
        return "|".join(self)


key_of = lru_cache(maxsize=NAMES)(Key)  # the same one each time


class Share(Struct, array_like=True, gc=False):
    """What a report that no fill explains added to a strategy's position, at the mark."""

    strategy: str
    quantity: float
    entry: float  # of what it reduced
    mark: float
    at_ns: int

    def realised(self, *, inverse: bool) -> float:
        """Return the P&L that the strategy realised by it, for a contract size of 1."""
        return -self.quantity * _gain(self.entry, self.mark, inverse=inverse)


class BookPosition(Struct):
    """One position; ``quantity`` in base units or contracts, short below 0."""

    venue: str
    symbol: str
    size: float | None  # contract size; None: an inverse contract without a reported one
    strategy: str = ""  # "" for the account's own position
    quantity: float = 0.0
    rest: float = 0.0  # the part of the quantity that its float cannot hold
    entry: float = 0.0
    carried: float = 0.0  # rounding of the cost, per unit of size
    unsized: float = 0.0  # realised before the size was reported, per unit of it
    unsized_ns: int = 0  # when it was realised last
    leg: Leg = ""
    # Of the account's own: the venue's reports and the fills that they contain.
    ledger: LedgerState | None = None
    base: float | None = None  # what was known at the first report, while that is the last one
    # Of a snapshot of before 0.2.1: the prices of the fills in the ledger, by cause.
    prices: dict[int, float] = field(default_factory=dict)
    causes: int = 0  # numbers given to fills
    marks: dict[int, float] = field(default_factory=dict)  # at the last reports, by their time
    shares: list[Share] = field(default_factory=list)  # of what the last report took

    @property
    def key(self) -> Key:
        """What the position is of."""
        return Key(self.venue, self.symbol, self.leg, self.strategy)

    def ledger_state(self) -> LedgerState:
        """Return the state of the ledger; one without it begins with the quantity."""
        if self.ledger is None:
            self.ledger = LedgerState(before=self.quantity)
        for effect in self.ledger.effects if self.prices else ():
            effect.price = self.prices.get(effect.cause, effect.price)
        self.prices.clear()
        return self.ledger

    def note_mark(self, at_ns: int, mark: float | None) -> None:
        """Record the mark at a report."""
        if mark is not None:
            self.marks[at_ns] = mark
            if len(self.marks) > _MARKS:
                del self.marks[min(self.marks)]

    def mark_at(self, at_ns: int) -> float | None:
        """Return the mark at the first report that is not earlier; None where it is unknown."""
        return self.marks.get(min((one for one in self.marks if one >= at_ns), default=0))

    def rebuild(self, entry: float, *, inverse: bool) -> None:
        """Set the position to the last report of the ledger, with what is on top of it."""
        ledger = self.ledger_state()
        report = ledger.reports[-1]
        self.replace(report.amount, entry)
        for effect in ledger.effects[report.contains :]:
            self.fill(effect.amount, effect.price, inverse=inverse)

    def gain(self, realised: float, at_ns: int) -> float:
        """Return ``realised``, per unit of size, in the settle asset; deferred without a size."""
        if self.size is not None:
            return realised * self.size
        self.unsized += realised
        self.unsized_ns = at_ns
        return 0.0

    def resize(self, size: float) -> float:
        """Set the contract size; return the deferred realised P&L, in the settle asset."""
        self.size = size
        deferred, self.unsized = self.unsized, 0.0
        return deferred * size

    def fill(self, quantity: float, price: float, *, inverse: bool) -> float:
        """Apply a fill of signed ``quantity``; return the realised P&L per unit of size.

        What it pays is the change of the cost, ``quantity x entry``, and what it realises: to the
        last bit, because rounding is carried over to the next close.
        """
        held, entry = self.quantity, self.entry
        left = self._move(quantity)
        opens = not held or (held > 0) == (quantity > 0)
        if not left:
            now = 0.0
        elif opens:
            now = _mean(held, entry, quantity, price, inverse=inverse)
        else:  # past zero this fill opened the rest
            now = entry if (left > 0) == (held > 0) else price
        self.entry = now
        if not held or entry <= 0:
            return 0.0  # nothing is closed, or the entry price is unknown, and so is the gain
        each = price  # from here on `each`, `entry` and `now` are the cost of one
        if inverse:
            each, entry, now = -1 / price, -1 / entry, -1 / now if left else 0.0
        paid = quantity * each
        realised = fsum((left * now, -held * entry, -paid)) - self.carried
        is_rounding = opens or abs(realised) <= _CARRIED * abs(paid)
        self.carried = -realised if is_rounding else 0.0
        return 0.0 if is_rounding else realised

    def gain_of(self, quantity: float, entry: float, price: float, *, inverse: bool) -> float:
        """Return what a quantity gains between two prices, in the settle asset."""
        return quantity * (self.size or 0.0) * _gain(entry, price, inverse=inverse)

    def correct(self, quantity: float, entry: float) -> None:
        """Add ``quantity``; ``entry`` is the entry price if the position changes its side."""
        held = self.quantity
        self._move(quantity)
        if self.quantity == 0:
            self.entry = 0.0
        elif held == 0 or (self.quantity > 0) != (held > 0):
            self.entry = entry

    def replace(self, quantity: float, entry: float) -> None:
        """Replace quantity and entry price."""
        self.quantity, self.rest, self.carried = quantity, 0.0, 0.0
        self.entry = entry if quantity else 0.0

    def _move(self, quantity: float) -> float:
        """Add to the quantity, and return it; what the float cannot hold is added to the rest."""
        held = self.quantity
        total = held + quantity
        added = total - held
        low = self.rest + ((held - (total - added)) + (quantity - added))
        left = total + low
        if abs(left) <= _ROUNDING * abs(quantity):
            self.quantity = self.rest = 0.0
            return 0.0
        self.quantity, self.rest = left, (total - left) + low
        return left

    def unrealised_at(self, mark: float, *, inverse: bool) -> float | None:
        """Return the unrealised P&L in the settle asset; None without a contract size or entry."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or self.entry <= 0:
            return None
        gain = _gain(self.entry, mark, inverse=inverse)
        return self.size * (self.quantity * gain - self.carried)


def _gain(entry: float, price: float, *, inverse: bool) -> float:
    """Return the gain of one contract of size 1 from one price to another."""
    if entry <= 0:
        return 0.0  # the entry price is unknown, and so is the gain
    return (1 / entry - 1 / price) if inverse else (price - entry)


def _mean(held: float, entry: float, quantity: float, price: float, *, inverse: bool) -> float:
    if held == 0:
        return price
    if entry <= 0:
        return 0.0  # the entry of a part is unknown
    total = abs(held) + abs(quantity)
    if inverse:
        return total / (abs(held) / entry + abs(quantity) / price)
    return (abs(held) * entry + abs(quantity) * price) / total
