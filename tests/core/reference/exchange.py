"""A simulated account: what it truly holds, which no report shows at once.

The exchanges trade, pay fees and funding, and move money; :class:`Truth` has the exact result at
each instant. Prices and quantities are short binary fractions, so that a report loses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction as F

SPOT, LINEAR, INVERSE = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"
CONTRACT = F(100)  # the size of the inverse contract, in USD


@dataclass
class Position:
    """A contract position at average cost."""

    quantity: F = F(0)
    entry: F = F(0)


@dataclass
class Fill:
    """One execution; its fee is in the quote or settle asset."""

    number: int
    venue: str
    symbol: str
    side: str
    quantity: F
    price: F
    fee: F


@dataclass
class Truth:
    """The account."""

    price: F = F(1_000)  # of one BTC, and of each contract
    units: F = F(0)
    balances: dict[tuple[str, str], F] = field(default_factory=lambda: defaultdict(F))
    positions: dict[tuple[str, str], Position] = field(
        default_factory=lambda: defaultdict(Position)
    )
    under_way: F = F(0)  # USDT that left one venue and has not arrived at the other
    fills: int = 0

    def begin(self) -> None:
        """The account is complete: units begin as its equity."""
        self.units = self.equity

    @property
    def equity(self) -> F:
        """What everything is worth."""
        held = sum(
            (n * (self.price if asset == "BTC" else 1) for (_, asset), n in self.balances.items()),
            self.under_way,
        )
        return held + sum((self._value(*key) for key in self.positions), F(0))

    def _value(self, venue: str, symbol: str) -> F:
        gained = self.unrealised(venue, symbol)
        return gained * self.price if symbol == INVERSE else gained

    @property
    def unit_value(self) -> F:
        """Equity for each unit."""
        return self.equity / self.units

    def unrealised(self, venue: str, symbol: str) -> F:
        """Of one position, in its settle asset."""
        held = self.positions[venue, symbol]
        return self._gain(symbol, held.quantity, held.entry, self.price)

    def _gain(self, symbol: str, quantity: F, entry: F, price: F) -> F:
        if quantity == 0:
            return F(0)
        if symbol == INVERSE:
            return quantity * CONTRACT * (1 / entry - 1 / price)
        return quantity * (price - entry)

    def net(self, symbol: str) -> F:
        """The net quantity of a symbol over all venues."""
        if symbol == SPOT:
            return sum((n for (_, asset), n in self.balances.items() if asset == "BTC"), F(0))
        return sum((p.quantity for (_, s), p in self.positions.items() if s == symbol), F(0))

    # -- what happens

    def trade(self, venue: str, symbol: str, signed: F, fee: F = F(0)) -> Fill:
        """Buy or sell at the price."""
        self.fills += 1
        if symbol == SPOT:
            self.balances[venue, "BTC"] += signed
            self.balances[venue, "USDT"] -= signed * self.price + fee
        else:
            asset = "BTC" if symbol == INVERSE else "USDT"
            self.balances[venue, asset] += self._close_and_open(venue, symbol, signed) - fee
        side = "buy" if signed > 0 else "sell"
        return Fill(self.fills, venue, symbol, side, abs(signed), self.price, fee)

    def _close_and_open(self, venue: str, symbol: str, signed: F) -> F:
        """Move a position; what is realised."""
        held, price = self.positions[venue, symbol], self.price
        after, realised = held.quantity + signed, F(0)
        if held.quantity * signed < 0:
            closed = held.quantity if abs(signed) >= abs(held.quantity) else -signed
            realised = self._gain(symbol, closed, held.entry, price)
            held.entry = price if after * held.quantity < 0 else held.entry
        elif symbol == INVERSE:
            parts = (held.quantity / held.entry if held.quantity else F(0)) + signed / price
            held.entry = after / parts
        else:
            held.entry = (held.quantity * held.entry + signed * price) / after
        held.quantity = after
        held.entry = held.entry if after else F(0)
        return realised

    def fund(self, venue: str, amount: F) -> None:
        """A payment that no fill explains."""
        self.balances[venue, "USDT"] += amount

    def flow(self, venue: str, amount: F, asset: str = "USDT") -> None:
        """A deposit or withdrawal: it makes units, and no profit."""
        before = self.unit_value
        value = amount * (self.price if asset == "BTC" else 1)
        self.balances[venue, asset] += amount
        self.units += value / before

    def leave(self, venue: str, amount: F) -> None:
        """Money leaves for another venue."""
        self.balances[venue, "USDT"] -= amount
        self.under_way += amount

    def arrive(self, venue: str, amount: F) -> None:
        """It arrives."""
        self.under_way -= amount
        self.balances[venue, "USDT"] += amount
