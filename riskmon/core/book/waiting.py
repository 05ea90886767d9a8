"""Pending flows of a venue, and which of them a change of its balances contains."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import combinations, islice
from math import fsum

from msgspec import Struct

from riskmon.core.book.changes import SLACK, Amounts, Change, is_equal, is_moved

EARLY_NS = 900 * 10**9  # a change may be so much earlier than the flow that equals it
TOGETHER_MAX = 8  # flows of one asset whose sums are compared with a change

Age = tuple[int, int]  # when a flow happened, and its number


class Flow(Struct):
    """A deposit or, below 0, a withdrawal; or one leg of a transfer."""

    id: str
    venue: str
    asset: str
    amount: float
    told_ns: int
    at_ns: int | None = None  # when it happened, where the event says so
    transfer: int | None = None  # the number of its transfer
    number: int = 0  # in the order in which flows and transfers were reported

    @property
    def age(self) -> Age:
        """The order in which flows are matched."""
        return (self.told_ns if self.at_ns is None else self.at_ns, self.number)


class Waiting:
    """The pending flows of one venue."""

    def __init__(self) -> None:
        self.flows: dict[Age, Flow] = {}
        self.by_asset: dict[str, dict[int, float]] = {}
        self._ages: list[Age] = []
        self._amounts = Amounts[Age]()

    def add(self, flow: Flow) -> None:
        """Add a flow."""
        self.flows[flow.age] = flow
        self.by_asset.setdefault(flow.asset, {})[flow.number] = flow.amount
        insort(self._ages, flow.age)
        self._amounts.add(flow.asset, flow.amount, flow.age)

    def remove(self, flow: Flow) -> None:
        """Remove a flow."""
        del self.flows[flow.age]
        amounts = self.by_asset[flow.asset]
        del amounts[flow.number]
        if not amounts:
            del self.by_asset[flow.asset]
        del self._ages[bisect_left(self._ages, flow.age)]
        self._amounts.remove(flow.asset, flow.amount, flow.age)

    def equal(self, change: Change, asset: str) -> Flow | None:
        """Return the oldest flow that a change of its asset equals."""
        amount, until_ns = change.amounts[asset], change.at_ns + EARLY_NS
        found: Age | None = None
        for ages in self._amounts.near(asset, amount):
            for age in ages:
                if age[0] > until_ns or (found is not None and age > found):
                    break
                if is_equal(amount, self.flows[age].amount):
                    found = age
                    break
        return None if found is None else self.flows[found]

    def together(self, change: Change, asset: str) -> Sequence[Flow]:
        """Return the fewest flows that together equal a change of an asset, the oldest first."""
        until_ns = change.at_ns + EARLY_NS
        of_asset = (
            flow
            for flow in map(self.flows.__getitem__, self._ages)
            if flow.asset == asset and flow.age[0] <= until_ns
        )
        oldest = list(islice(of_asset, TOGETHER_MAX))
        for count in range(2, len(oldest) + 1):
            for some in combinations(oldest, count):
                left = change.amounts[asset] - fsum(one.amount for one in some)
                if abs(left) <= SLACK * max(abs(one.amount) for one in some):
                    return some
        return ()

    def moved(self, change: Change, after: Age) -> Flow | None:
        """Return the oldest flow later than ``after`` in whose direction a change moves value."""
        value, rates, ages = change.value, change.rates, self._ages
        if not value:
            return None
        for index in range(bisect_left(ages, after), len(ages)):
            flow = self.flows[ages[index]]
            rate = rates.get(flow.asset)
            if rate is not None and is_moved(value, flow.amount * rate):
                return flow
        return None
