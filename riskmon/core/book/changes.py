"""Changes of balances that no fill explained, remembered so that a flow can be matched late.

Each venue has its own list, in the order in which they settled. What a flow explains of a change is
subtracted from it. Two indexes, derived from the list, find the change that a flow matches without
reading all of them: by asset and amount, and by the value that moved.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import floor, inf, log
from operator import attrgetter
from typing import Generic, TypeVar

from msgspec import Struct

from riskmon.core.book.history import KEEP_NS

CHANGES_MAX = 4_096  # of a venue
BLOCK = 64  # changes that are searched, and dropped, together
EQUAL = 0.005  # two amounts are equal within this part of the flow's
SLACK = 1e-9  # of comparisons, in favour of a match
STEP = 0.0051  # of the logarithm of amounts: equal amounts are at most one step apart

K = TypeVar("K", int, tuple[int, int])
_at = attrgetter("at_ns")


class Change(Struct):
    """What no fill explains of a report that settled.

    ``amounts`` is what no flow explains either, ``rates`` the prices at that instant, of these
    assets and of those of pending flows at the venue. ``dust`` is the least equity that counts.
    ``reported_ns`` is the time of the report, the latest one of several; a report may settle some
    seconds later.
    """

    venue: str
    at_ns: int
    equity_before: float  # of the account, just before it, at the prices of that instant
    amounts: dict[str, float]
    rates: dict[str, float]
    dust: float
    enters: bool = False  # as a whole: a first report
    past: bool = False  # it is in the capital: settled before the first equity or a rebase
    taken: float = 0.0  # the value of it that entered as a flow
    reported_ns: int = 0  # 0: stored by an earlier version

    @property
    def value(self) -> float:
        """The value of what is left, without assets that had no price."""
        rates = self.rates
        return sum(
            amount * rates[asset] for asset, amount in self.amounts.items() if asset in rates
        )

    @property
    def equity(self) -> float:
        """Equity after what entered of it, at least ``dust``: an empty account is worth that."""
        return max(self.equity_before + self.taken, self.dust)


def is_equal(amount: float, flow: float) -> bool:
    """Return whether a change of an asset equals a flow."""
    return abs(amount - flow) <= EQUAL * (1 + SLACK) * abs(flow)


def is_moved(value: float, flow: float) -> bool:
    """Return whether a value moves in the direction of a flow, by at least half of it."""
    return value * flow > 0 and abs(value) >= abs(flow) * 0.5 * (1 - SLACK)


class Amounts(Generic[K]):
    """Keys of items by asset and amount, in ascending order where amounts are alike."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, bool, int], list[K]] = {}

    def add(self, asset: str, amount: float, key: K) -> None:
        """Add an item; an amount of 0 equals no other."""
        if amount:
            insort(self._keys.setdefault((asset, amount > 0, _step(amount)), []), key)

    def remove(self, asset: str, amount: float, key: K) -> None:
        """Remove an item."""
        if not amount:
            return
        at = (asset, amount > 0, _step(amount))
        keys = self._keys[at]
        del keys[bisect_left(keys, key)]
        if not keys:
            del self._keys[at]

    def near(self, asset: str, amount: float) -> Iterator[list[K]]:
        """Yield lists that hold every item of an equal amount, and maybe items of others."""
        if not amount:
            return
        step = _step(amount)
        for near in (step - 1, step, step + 1):
            keys = self._keys.get((asset, amount > 0, near))
            if keys:
                yield keys


def _step(amount: float) -> int:
    return floor(log(abs(amount)) / STEP)


def _reported_ns(change: Change) -> int:
    return change.reported_ns or change.at_ns


class Remembered:
    """The changes of one venue. They are numbered from the first that this object had."""

    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes
        self._first = 0
        self._amounts = Amounts[int]()
        self._values: list[float] = []  # of what is left
        self._highest: list[float] = []  # of the values of each block
        self._lowest: list[float] = []
        self._least: dict[str, float] = {}  # asset -> lowest price of it
        self._unvalued: dict[int, None] = {}  # changes from which something was taken since
        for number in range(len(changes)):
            self._index(number)

    def __getitem__(self, number: int) -> Change:
        return self._changes[number - self._first]

    def add(self, change: Change) -> int:
        """Remember a change, and drop old ones; return its number."""
        self._drop(change.at_ns - KEEP_NS)
        self._changes.append(change)
        number = self._first + len(self._changes) - 1
        self._index(number)
        return number

    def _index(self, number: int) -> None:
        change = self[number]
        for asset, amount in change.amounts.items():
            self._amounts.add(asset, amount, number)
        for asset, rate in change.rates.items():
            self._least[asset] = min(rate, self._least.get(asset, inf))
        self._values.append(0.0)
        if len(self._values) > len(self._highest) * BLOCK:
            self._highest.append(0.0)
            self._lowest.append(0.0)
        self._unvalued[number] = None

    def _revalue(self) -> None:
        """Value what is left of the changes: once, however many flows took something of one."""
        for number in self._unvalued:
            index = number - self._first
            self._values[index] = self._changes[index].value
            block = index // BLOCK
            values = self._values[block * BLOCK : (block + 1) * BLOCK]
            self._highest[block], self._lowest[block] = max(values), min(values)
        self._unvalued.clear()

    def _drop(self, old_ns: int) -> None:
        """Drop the oldest block, if all of it is old or there are too many changes."""
        changes = self._changes
        while len(changes) >= BLOCK and (
            changes[BLOCK - 1].at_ns < old_ns or len(changes) >= CHANGES_MAX + BLOCK
        ):
            self._revalue()
            for number, change in enumerate(changes[:BLOCK], self._first):
                for asset, amount in change.amounts.items():
                    self._amounts.remove(asset, amount, number)
            del changes[:BLOCK], self._values[:BLOCK], self._highest[:1], self._lowest[:1]
            self._first += BLOCK

    def equal(self, asset: str, flow: float, since_ns: int) -> int | None:
        """Return the earliest change of an asset since ``since_ns`` that equals a flow."""
        first = self._first + bisect_left(self._changes, since_ns, key=_at)
        found: int | None = None
        for numbers in self._amounts.near(asset, flow):
            for at in range(bisect_left(numbers, first), len(numbers)):
                number = numbers[at]
                if found is not None and number > found:
                    break
                if is_equal(self[number].amounts[asset], flow):
                    found = number
                    break
        return found

    def moved(self, asset: str, flow: float, rate: float | None, since_ns: int) -> int | None:
        """Return the earliest change since ``since_ns`` in which value moves as a flow does.

        ``rate`` is the price of the flow's asset where a change has none of its instant.
        """
        least = min(self._least.get(asset, inf), inf if rate is None else rate)
        if least == inf:
            return None
        self._revalue()
        sign = 1.0 if flow > 0 else -1.0
        need = abs(flow) * least * 0.5 * (1 - SLACK)  # at the lowest price
        first, end = bisect_left(self._changes, since_ns, key=_at), len(self._changes)
        values, highest = self._values, self._highest if flow > 0 else self._lowest
        for block in range(first // BLOCK, len(highest)):
            if highest[block] * sign < need:
                continue
            for index in range(max(first, block * BLOCK), min(end, (block + 1) * BLOCK)):
                if values[index] * sign < need:
                    continue
                price = self._changes[index].rates.get(asset, rate)
                if price is not None and is_moved(values[index], flow * price):
                    return index + self._first
        return None

    def take(self, number: int, asset: str, amount: float, price: float | None) -> None:
        """Subtract what a flow explains from a change.

        From its asset, where that moved by at least half of it; else from all assets in proportion.
        """
        change = self[number]
        held = change.amounts.get(asset, 0.0)
        if is_moved(held, amount):
            self._set(number, asset, 0.0 if is_equal(held, amount) else held - amount)
        elif price is not None:
            value = change.value
            left = (value - amount * price) / value
            for one in change.rates:
                if one in change.amounts:
                    self._set(number, one, change.amounts[one] * left)
        self._unvalued[number] = None

    def explain(self, asset: str, amount: float, rate: float | None, since_ns: int) -> int | None:
        """Subtract what an effect explains from the first change reported since ``since_ns``.

        Return the number of the change; None without one, or if it is part of the capital.
        """
        index = len(self._changes)
        while index and _reported_ns(self._changes[index - 1]) >= since_ns:
            index -= 1
        if index == len(self._changes) or self._changes[index].past:
            return None
        number, change = index + self._first, self._changes[index]
        if rate is not None and asset not in change.rates:
            change.rates[asset] = rate
            self._least[asset] = min(rate, self._least.get(asset, inf))
        self.subtract(number, asset, amount)
        return number

    def subtract(self, number: int, asset: str, amount: float) -> None:
        """Subtract an amount from an asset of a change; the rest may have the other sign."""
        left = self[number].amounts.setdefault(asset, 0.0) - amount
        self._set(number, asset, 0.0 if abs(left) <= SLACK * abs(amount) else left)
        self._unvalued[number] = None

    def clear(self, number: int) -> None:
        """Set a change to 0, so that no flow matches it."""
        for asset in list(self[number].amounts):
            self._set(number, asset, 0.0)
        self._unvalued[number] = None

    def _set(self, number: int, asset: str, amount: float) -> None:
        amounts = self[number].amounts
        self._amounts.remove(asset, amounts[asset], number)
        if amount:
            amounts[asset] = amount
            self._amounts.add(asset, amount, number)
        else:
            del amounts[asset]
