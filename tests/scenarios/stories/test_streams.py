"""Venues that stream single balances without a pause: a loss is judged all the same."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import pytest

from tests.scenarios.stories.run import Event, Run, balance, balances, price

LIMITS = """
[limits.portfolio_loss]
max = 0.05
[limits.drawdown]
max = 0.05
"""
COINS, MONEY = 0.1, 5_000.0  # of the account, spread evenly over its venues


class Stream(NamedTuple):
    """Venues that report one of their two assets after the other, so many times a second."""

    venues: int
    a_second: float
    named: bool  # whether the configuration names the venues

    def names(self) -> list[str]:
        return [f"v{number}" for number in range(self.venues)]

    def run(self) -> Run:
        names = ", ".join(f'"{name}"' for name in self.names())
        run = Run(f"[portfolio]\n{f'venues = [{names}]' if self.named else ''}\n{LIMITS}")
        run.at(0, price("BTC/USDT", 50_000))
        return run

    def reports(self, begin: float, end: float, lost: float = 0.0) -> list[tuple[float, Event]]:
        """The reports between two times; the first venue has ``lost`` some of its money."""
        found = []
        for number, name in enumerate(self.names()):
            money = MONEY / self.venues - (lost if number == 0 else 0.0)
            offset = 0.013 + number * 0.37 / self.a_second
            for count in range(int((end - begin) * self.a_second)):
                asset, free = (("USDT", money), ("BTC", COINS / self.venues))[count % 2]
                found.append((begin + offset + count / self.a_second, balance(name, asset, free)))
        return sorted(found, key=lambda one: one[0])


STREAMS = [Stream(*of) for of in product((1, 2, 3, 5), (2, 4, 10), (True, False))]


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_a_fall_of_prices_is_judged_at_the_price(stream: Stream) -> None:
    """Coins that are half of the account fall by 25 %: 12.5 % are lost at that event."""
    run = stream.run()
    for second, report in stream.reports(0, 40):
        run.at(second, report)
    assert run.portfolio["equity"] == pytest.approx(10_000, rel=1e-9)
    assert run.portfolio["initial_capital"] == pytest.approx(10_000, rel=1e-9)
    assert (run.trips, run.unknown) == ([], [])
    second = run.second + 0.001
    run.at(second, price("BTC/USDT", 37_500))
    assert [trip.limit for trip in run.trips] == ["portfolio_loss", "drawdown"]
    assert [trip.second for trip in run.trips] == pytest.approx([second, second])
    assert run.value("portfolio_loss") == pytest.approx(0.125, rel=1e-9)
    for later, report in stream.reports(second, second + 10):
        run.at(later, report)
    assert run.value("portfolio_loss") == pytest.approx(0.125, rel=1e-9)


@pytest.mark.parametrize("stream", STREAMS, ids=str)
def test_a_loss_in_a_balance_is_judged_within_6_s(stream: Stream) -> None:
    """Money that vanishes from a balance trips after 6 s at the latest."""
    run = stream.run()
    for second, report in stream.reports(0, 40):
        run.at(second, report)
    begin = run.second + 0.001
    reports = stream.reports(begin, begin + 8, lost=1_000)
    lost = next(
        second for second, one in reports if one["venue"] == "v0" and one["asset"] == "USDT"
    )
    for second, report in reports:
        run.at(second, report)
    assert run.trips[0].limit == "portfolio_loss"
    assert 0 <= run.trips[0].second - lost <= 6.0
    assert run.value("portfolio_loss") == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("pause", [0.3, 0.9, 1.1, 4.9])
def test_a_loss_is_judged_within_6_s_in_any_pace(pause: float) -> None:
    """Reports of one venue at any pace: a loss in one of them is judged within 6 s."""
    run = Run(f'[portfolio]\nvenues = ["kraken"]\n{LIMITS}')
    run.at(0, balances("kraken", USDT=10_000, EUR=0))
    lost = 40 + 20 * pause
    for count in range(20):
        run.at(40 + 2 * count * pause, balance("kraken", "USDT", 10_000 if count < 10 else 9_000))
        run.at(40 + (2 * count + 1) * pause, balance("kraken", "EUR", 0))
    run.at(run.second + 6)
    assert 0 <= run.trips[0].second - lost <= 6.0
