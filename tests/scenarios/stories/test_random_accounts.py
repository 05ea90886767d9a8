"""Accounts that live at random: what is told late, early or out of step never trips.

An exchange knows its amounts; its feeds tell them with delays. When all has been told, equity is
that of the exchange, and so is the unit value, but for prices and fees between a flow and the
balance that contains it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

import pytest

from tests.scenarios.stories.run import Event, Run, at_text, balance, balances, fill, price

SPOT, CONTRACT = "B/USDT", "B/USDT:USDT"
CONFIG = """
[portfolio]
venues = [{venues}]
max_age = {{ price = 100_000, balance = 100_000 }}
[limits.portfolio_loss]
max = 0.04
[limits.drawdown]
max = 0.04
"""


class Feed:
    """What is told, by the time of its arrival."""

    def __init__(self) -> None:
        self._told: list[tuple[float, int, Event]] = []
        self._count = 0

    def tell(self, second: float, event: Event) -> None:
        self._count += 1
        heappush(self._told, (second, self._count, event))

    def play(self, run: Run) -> None:
        while self._told:
            second, _, event = heappop(self._told)
            run.at(second, event)


class Exchange:
    """One venue: its amounts, and how it tells them."""

    def __init__(self, name: str, random: Random, feed: Feed) -> None:
        self.name, self.random, self.feed = name, random, feed
        self.whole, self.dated = random.random() < 0.5, random.random() < 0.6
        self.period, self.next_poll = random.choice((20, 45, 60)), 40 + random.uniform(0, 30)
        self.money, self.coins = float(random.randint(3_000, 9_000)), float(random.randint(0, 40))
        self.size = self.entry = 0.0  # of its contracts
        self._latest: dict[str, float] = {}  # arrival of the last event of a stream
        self._fills = 0
        feed.tell(0.01, self._all())

    def value(self, mark: float) -> float:
        return self.money + self.coins * mark + self.size * (mark - self.entry)

    def settles(self, second: float) -> float:
        """When a change of this second has been told for sure."""
        return second + (self.period + 3 if self.whole else 8)

    def _all(self) -> Event:
        return balances(self.name, USDT=self.money, B=self.coins)

    def _stamped(self, event: Event, second: float) -> Event:
        return {**event, "at": at_text(second)} if self.dated else event

    def _tell(self, stream: str, second: float, delay: float, event: Event) -> None:
        arrives = max(second + self.random.uniform(0.02, delay), self._latest.get(stream, 0) + 1e-3)
        self._latest[stream] = arrives
        self.feed.tell(arrives, self._stamped(event, second))

    def poll(self, until: float) -> None:
        """Tell all amounts, once a period, where balances are polled."""
        while self.whole and self.next_poll <= until:
            self._tell("poll", self.next_poll, 1.2, self._all())
            self.next_poll += self.period

    def _push(self, second: float, *assets: str) -> None:
        for asset in () if self.whole else assets:
            amount = self.money if asset == "USDT" else self.coins
            self._tell(asset, second, 0.8, balance(self.name, asset, amount))

    def _filled(self, second: float, what: str, fee: float = 0.0) -> None:
        self._fills += 1
        event = fill(f"{self.name}{self._fills}", self.name, what, fee=fee)
        self._tell("fill", second, 2.4, event)

    def trade(self, second: float, mark: float) -> None:
        quantity, fee = round(self.random.uniform(0.1, 5), 3), round(self.random.uniform(0, 0.5), 3)
        buys = self.random.random() < 0.5
        if (self.money < quantity * mark) if buys else (self.coins < quantity):
            return
        sign = 1 if buys else -1
        self.coins += sign * quantity
        self.money -= sign * quantity * mark + fee
        self._filled(second, f"{'buy' if buys else 'sell'} {quantity} {SPOT} {mark}", fee)
        self._push(second, *self.random.sample(("USDT", "B"), 2))

    def contract(self, second: float, mark: float) -> None:
        change = self.random.choice((-1, 1)) * round(self.random.uniform(0.1, 8), 2)
        before, after = self.size, round(self.size + change, 6)
        realised = 0.0
        if before * change < 0:
            closed = min(abs(before), abs(change)) * (1 if before > 0 else -1)
            realised = closed * (mark - self.entry)
            self.entry = self.entry if after * before > 0 else mark
        else:
            self.entry = (before * self.entry + change * mark) / after
        self.size, self.money = after, self.money + realised
        side = "buy" if change > 0 else "sell"
        self._filled(second, f"{side} {abs(change)} {CONTRACT} {mark}")
        if realised:
            self._push(second, "USDT")

    def flow(self, second: float, amount: float, told: float) -> None:
        self.money += amount
        event = {"type": "cash_flow", "id": f"{second}", "venue": self.name, "asset": "USDT"}
        self.feed.tell(told, self._stamped({**event, "amount": amount}, min(second, told)))
        self._push(second, "USDT")


@pytest.mark.parametrize("seed", range(60))
def test_an_account_is_worth_what_its_exchanges_hold(seed: int) -> None:
    """Nothing trips on the way, and in the end equity and unit value are those of the exchange."""
    random, feed = Random(seed), Feed()
    venues = [Exchange(name, random, feed) for name in ("k", "m")[: random.choice((1, 1, 2))]]
    run = Run(CONFIG.format(venues=", ".join(f'"{one.name}"' for one in venues)))
    mark, second, quiet = 100.0, 40.0, 0.0
    run.at(0, price(SPOT, mark), price(CONTRACT, mark))
    units = sum(one.value(mark) for one in venues)
    for _ in range(random.randint(5, 25)):
        second = round(second + random.choice((0.3, 1.0, 4.0, 8.0, 20.0, 70.0)), 3)
        for venue in venues:
            venue.poll(second)
        venue, what = random.choice(venues), random.choice(("trade", "contract", "flow", "price"))
        if what == "trade":
            venue.trade(second, mark)
        elif what == "contract":
            venue.contract(second, mark)
        elif what == "price" and second >= quiet:
            mark = round(mark * random.uniform(0.997, 1.003), 4)
            feed.tell(second, price(SPOT, mark))
            feed.tell(second, price(CONTRACT, mark))
        elif what == "flow":
            amount = round(random.choice((-0.3, -0.1, 0.2, 0.5)) * venue.money, 2)
            units += amount * units / sum(one.value(mark) for one in venues)
            told = random.choice((max(41.0, second - random.choice((0.1, 5, 30))), second + 0.01))
            venue.flow(second, amount, told)
            quiet = max(quiet, venue.settles(second))
    for venue in venues:
        venue.poll(second + 130)
    feed.play(run)
    run.at(second + 140)
    equity = sum(one.value(mark) for one in venues)
    assert (run.trips, run.unknown) == ([], [])
    assert run.portfolio["equity"] == pytest.approx(equity, rel=1e-9)
    assert run.portfolio["unit_value"] == pytest.approx(equity / units, abs=2e-4)
