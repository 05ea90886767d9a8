"""Positions at average cost.

Formulas (q signed quantity, s contract size, e entry price, m mark price, p fill price):

* linear and spot, in the settle (quote) asset: unrealised ``q s (m - e)``; a fill of the opposite
  side realises ``closed s (p - e)`` with the sign of the position; the entry is the mean of the
  prices weighted by quantity.
* inverse, in the settle (base) asset: unrealised ``q s (1/e - 1/m)``, realised likewise; the entry
  is the harmonic mean, because the contracts are sized in the quote currency.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from riskmon.core.money import Sum

# A quantity this small against what just moved is the rounding of binary floats, not a holding:
# 0.1 + 0.2 - 0.3 leaves 5.6e-17.
_ROUNDING = 1e-12


class Close(NamedTuple):
    """P&L that a strategy realised at once, less fees, in the reference currency."""

    strategy: str
    pnl: float


class Position(Struct):
    """One position; ``quantity`` in base units or contracts, short below 0."""

    venue: str
    symbol: str
    size: float | None  # contract size; None: an inverse contract nobody gave a size for
    strategy: str = ""  # "" for the account's own book
    quantity: float = 0.0
    rest: float = 0.0  # the part of the quantity that its float cannot hold
    entry: float = 0.0
    unrealised: float = 0.0  # in the settle asset, as last counted
    notional: float = 0.0  # signed, in the reference, as last counted
    replaced_wall_ns: int = 0  # of the last `position` event
    unsized: float = 0.0  # realised before there was a size, per unit of it: not told yet

    def gain(self, realised: float) -> float:
        """``realised`` per unit of size in the settle asset; without a size it waits for one."""
        if self.size is not None:
            return realised * self.size
        self.unsized += realised
        return 0.0

    def resize(self, size: float) -> float:
        """Take the contract size; what was realised before it was known, in the settle asset."""
        self.size = size
        waited, self.unsized = self.unsized, 0.0
        return waited * size

    def fill(self, quantity: float, price: float, *, inverse: bool) -> float:
        """Apply a fill of signed ``quantity``; the P&L it realised per unit of contract size."""
        held = self.quantity
        realised = 0.0
        if held == 0 or (held > 0) == (quantity > 0):
            self.entry = _mean(held, self.entry, quantity, price, inverse=inverse)
        else:
            closed = min(abs(held), abs(quantity))
            realised = self._gain(price, inverse=inverse) * (closed if held > 0 else -closed)
        self._move(quantity)
        if self.quantity == 0:
            self.entry = 0.0
        elif (self.quantity > 0) != (held > 0) and held != 0:
            self.entry = price  # it went past zero: what is left was opened by this fill
        return realised

    def _gain(self, price: float, *, inverse: bool) -> float:
        if self.entry <= 0:
            return 0.0  # the venue gave no entry: what was gained cannot be told
        return (1 / self.entry - 1 / price) if inverse else (price - self.entry)

    def _move(self, quantity: float) -> None:
        moved = Sum(self.quantity, self.rest)
        moved.add(quantity)
        left = moved.value
        if abs(left) <= _ROUNDING * max(abs(self.quantity), abs(quantity)):
            self.quantity = self.rest = 0.0
        else:
            self.quantity = left
            self.rest = (moved.high - left) + moved.low

    def replace(self, quantity: float, entry: float, wall_ns: int) -> None:
        """Take the venue's word for it."""
        self.quantity, self.rest = quantity, 0.0
        self.entry = entry if quantity else 0.0
        self.replaced_wall_ns = wall_ns

    def unrealised_at(self, mark: float, *, inverse: bool) -> float | None:
        """Unrealised P&L in the settle asset; None without a contract size."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or self.entry <= 0:
            return None
        if inverse:
            return self.quantity * self.size * (1 / self.entry - 1 / mark)
        return self.quantity * self.size * (mark - self.entry)

    def notional_at(self, mark: float | None, *, inverse: bool) -> float | None:
        """Signed notional in the quote asset; None when it cannot be told."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or (mark is None and not inverse):
            return None
        return self.quantity * self.size * (1.0 if inverse else mark or 0.0)


def _mean(held: float, entry: float, quantity: float, price: float, *, inverse: bool) -> float:
    if held == 0:
        return price
    if entry <= 0:
        return 0.0  # unknown in part is unknown
    total = abs(held) + abs(quantity)
    if inverse:
        return total / (abs(held) / entry + abs(quantity) / price)
    return (abs(held) * entry + abs(quantity) * price) / total
