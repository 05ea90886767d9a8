"""Hours of trading, as bots of different kinds report them: the account is judged by what is true.

Exchanges (:mod:`tests.scenarios.days.exchange`) have their amounts at every instant; bots
(:mod:`tests.scenarios.days.bots`) report them late, in batches, twice and out of step. Trades,
fees, funding, liquidations, deposits, withdrawals and transfers go on all the time.

What the contract leaves open is left out: money moves at a venue only when an earlier movement
there is reported and settled, because a balance does not say which of two flows it contains; and
balances without a time are not reported late, because they would stand for their arrival.
"""

from __future__ import annotations

import pytest

from tests.scenarios.days.day import BOUND, Day

STEP_S = 5.0
FEED_LAG = 5e-4  # of the unit value, where each venue has its own price feed
CLOSE = 1e-5


def follow(day: Day, seconds: float) -> None:
    """Let the day go on; the unit value stays near the true one."""
    until = day.wire.now + seconds
    while day.wire.now < until:
        day.wire.advance(day.wire.now + STEP_S)
        if not day.is_told:
            continue
        most = (
            day.under_way() / day.equity + day.slop + (FEED_LAG if day.feed.is_of_venues else CLOSE)
        )
        error = day.run.portfolio["unit_value"] - day.unit_value
        assert abs(error) <= most, f"off by {error} at {day.wire.now}, at most {most}"
    assert (day.run.trips, day.run.unknown) == ([], [])


def compare_positions(day: Day) -> None:
    """The positions are those of the exchanges."""
    shown = {
        (one["venue"], one["symbol"], one["leg"] or ""): one["quantity"]
        for one in day.run.portfolio["positions"]
    }
    for exchange in day.exchanges:
        for (symbol, leg), held in exchange.positions.items():
            found = shown.get((exchange.name, symbol, leg), 0.0)
            assert found == pytest.approx(held.quantity, abs=1e-9), (
                f"{exchange.name} {symbol} {leg}"
            )


def compare(day: Day) -> None:
    """Nothing happens any more: after a last report all figures are the true ones."""
    day.quiet()
    compare_positions(day)
    assert day.run.portfolio["equity"] == pytest.approx(day.told_equity, rel=2e-5)
    day.report_all()
    compare_positions(day)
    equity = day.equity
    assert day.run.portfolio["equity"] == pytest.approx(equity, rel=1e-9)
    assert day.run.portfolio["unit_value"] == pytest.approx(equity / day.units, abs=1e-6 + day.slop)
    loss = day.run.value("daily_loss")
    assert loss == pytest.approx(max(0.0, -day.pnl), abs=1e-6 * equity + day.unsure)


def fall_while_all_is_known(day: Day) -> None:
    """A rise, a fall and more trades: the drawdown is that from the true peak."""
    day.jump(1.05)
    day.wire.advance(day.wire.now + 1)
    peak = day.unit_value
    day.jump(0.99)
    day.moving, day.trading = False, True
    follow(day, 120.0)
    compare(day)
    true = 1 - day.equity / day.units / peak
    assert 0 < true < BOUND
    assert day.run.value("drawdown") == pytest.approx(true, abs=1e-6)


def lose(day: Day) -> None:
    """Prices fall while orders are executed: the loss trips within 6 s of its price."""
    day.trading = True
    day.wire.advance(day.wire.now + day.random.uniform(20, 60))
    assert day.run.trips == []
    day.jump(0.85)
    begin = day.wire.now
    day.wire.advance(begin + 6.05)
    assert {trip.limit for trip in day.run.trips} == {"portfolio_loss", "drawdown", "daily_loss"}


def live(seed: int, seconds: float) -> None:
    """A day from its first report to its crash."""
    day = Day(seed, flows=seed % 3 > 0)
    follow(day, seconds)
    compare(day)
    fall_while_all_is_known(day)
    lose(day)


@pytest.mark.parametrize("seed", range(3))
def test_some_minutes(seed: int) -> None:
    """Equity, losses, positions and trips are the true ones, some minutes of each kind of bot."""
    live(seed, 240.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
def test_hours(seed: int) -> None:
    """The same for an hour."""
    live(seed, 3_600.0)
