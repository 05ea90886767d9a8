"""Sums of money that do not drift.

Amounts come in any scale (1e-8 BTC beside 1e9 units of a meme coin), so there is no minor unit
that suits all, and decimals cost several times a float. A compensated sum (A. Neumaier,
"Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974) keeps the rounding
error of each addition in a second float: after a million additions and removals the sum is still
right to about one unit in the 16th digit of the largest amount that passed through.
"""

from __future__ import annotations

from msgspec import Struct


class Sum(Struct, gc=False):
    """A compensated running sum. Only :meth:`add` changes it."""

    high: float = 0.0
    low: float = 0.0

    def add(self, amount: float) -> None:
        """Add ``amount``; a negative one subtracts."""
        high = self.high
        total = high + amount
        if abs(high) >= abs(amount):
            self.low += (high - total) + amount
        else:
            self.low += (amount - total) + high
        self.high = total

    @property
    def value(self) -> float:
        """The sum."""
        return self.high + self.low
