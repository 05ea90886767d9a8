"""Sums of money that do not drift and do not depend on the order of additions.

Amounts come in any scale (1e-8 BTC beside 1e9 units of a meme coin), so there is no minor unit
that suits all, and decimals cost several times a float. A sum is one integer of a fixed binary
scale: a float times ``SCALE`` is exact, its integer part loses at most 2**-80 (8e-25), and integers
add exactly, in any order.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

SCALE = 2.0**80

K = TypeVar("K", bound=Hashable)


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

    def set(self, key: K, amount: float) -> bool:
        """Replace the part of ``key``, 0 removes it; return whether that changes anything."""
        scaled, before = int(amount * SCALE), self.parts.get(key, 0)
        if scaled == before:
            return False
        self.scaled += scaled - before
        if scaled:
            self.parts[key] = scaled
        else:
            del self.parts[key]
        return True

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self.scaled / SCALE


def encode_fixed(value: object) -> object:
    """Return what a snapshot stores of a :class:`Fixed`: msgpack has no integers that long."""
    if isinstance(value, Fixed):
        return f"{value.scaled:x}"
    raise NotImplementedError(f"{type(value)} cannot be stored")


def decode_fixed(kind: type, value: object) -> object:
    """Return the :class:`Fixed` that was stored."""
    if kind is Fixed and isinstance(value, str):
        return Fixed(int(value, 16))
    raise NotImplementedError(f"{kind} cannot be read")
