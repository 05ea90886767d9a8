"""Sums of money that do not drift.

Amounts come in any scale (1e-8 BTC beside 1e9 units of a meme coin), so there is no minor unit
that suits all, and decimals cost several times a float. A compensated sum (A. Neumaier,
"Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974) keeps the rounding
error of each addition in a second float: after a million additions and removals the sum is still
right to about one unit in the 16th digit of the largest amount that passed through.

A sum that is derived, and may be built again in another order, is one integer of a fixed binary
scale: a float times ``SCALE`` is exact, its integer part loses at most 2**-80 (8e-25), and integers
add exactly, in any order.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from msgspec import Struct

SCALE = 2.0**80

K = TypeVar("K", bound=Hashable)


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


class Fixed:
    """A running sum, stored in snapshots. Only :meth:`add` changes it."""

    __slots__ = ("scaled",)

    def __init__(self, scaled: int = 0) -> None:
        self.scaled = scaled

    def add(self, amount: float) -> None:
        """Add ``amount``; a negative one subtracts."""
        self.scaled += int(amount * SCALE)

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self.scaled / SCALE

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.scaled == other.scaled

    def __hash__(self) -> int:
        return hash(self.scaled)

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"


class Total(Generic[K]):
    """A derived sum of one part for each key."""

    __slots__ = ("parts", "scaled")

    def __init__(self) -> None:
        self.parts: dict[K, int] = {}
        self.scaled = 0

    def set(self, key: K, amount: float) -> None:
        """Replace the part of ``key``; 0 removes it."""
        scaled = int(amount * SCALE)
        self.scaled += scaled - self.parts.get(key, 0)
        if scaled:
            self.parts[key] = scaled
        else:
            self.parts.pop(key, None)

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self.scaled / SCALE
