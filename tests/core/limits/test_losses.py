"""Losses of a period, drawdown and losing streaks, in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isnan
from typing import Any

import msgspec
import pytest
from hypothesis import given

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.engine import Engine
from riskmon.core.limits.losses import LossParams
from tests.core import (
    BEGIN_WALL_NS,
    FEW,
    OMS,
    SECOND,
    World,
    balance,
    balances,
    exact,
    faults,
    fill,
    flow,
    limit,
    loss_limit,
    plain,
    price,
    run,
)
from tests.core.play import PORTFOLIO, STEPS, play, story_limits

HOUR = 3_600.0
DAY = 24 * HOUR
TO_MIDNIGHT = DAY - (3 * HOUR + 4 * 60 + 5 + 1_000)  # from the world's beginning, a Friday


def world(*limits: Any, portfolio: dict[str, Any] | None = None) -> World:
    """An account whose reports do not expire. Its equity is known with kraken's balances."""
    ages = {"price": 1e9, "balance": 1e9, "edge": 1e9}
    values = {"venues": ("kraken",), "max_age": ages, **(portfolio or {})}
    config = msgspec.convert(values, PortfolioConfig)
    return World(*limits, portfolio=config)


def loss(there: World, name: str = "daily_loss", scope: str = "account") -> float | None:
    """Return the value of a limit."""
    return there.breaker(name, scope).value


def at(there: World, seconds: float) -> datetime:
    """Return the date after so many seconds."""
    wall_ns = BEGIN_WALL_NS + there.now_ns + int(seconds * SECOND)
    return datetime.fromtimestamp(wall_ns / SECOND, UTC)


def every_loss() -> tuple[LimitConfig, ...]:
    """A limit of every kind, scope and period."""
    return (
        limit("daily_loss", max=50.0, trailing=True),
        limit("weekly_loss", max=50.0, per="venue"),
        limit("loss", name="hours", max=50.0, period="2h", trailing=True),
        limit("loss", name="mine", max=50.0, period="24h", per="strategy"),
        limit("drawdown", max=0.5),
        limit("loss_streak", max=2),
    )


def pnl(amount: float, number: int = 0, strategy: str | None = None) -> ev.Pnl:
    """P&L realised elsewhere."""
    return ev.Pnl(amount=amount, id=f"{amount}|{number}|{strategy}", strategy=strategy)


# -- days and weeks -------------------------------------------------------------------------------


def test_the_loss_of_a_day() -> None:
    """Profit of the day lowers its loss, which is never below 0; past the bound it trips."""
    there = world(limit("daily_loss", max=100.0))
    seen = []
    for usdt in (1_000.0, 1_040.0, 990.0, 950.0, 900.0):
        there.step(balances(USDT=usdt))
        seen.append(loss(there))
    assert seen == [0.0, 0.0, 10.0, 50.0, 100.0]
    assert there.state("daily_loss", "account") == "closed"
    there.step(balances(USDT=899.0))
    assert there.state("daily_loss", "account") == "open"
    assert there.breaker("daily_loss", "account").reason == "loss 101.00 over 100.00 in the day"


@pytest.mark.parametrize("period", ["day", "week", "24h"])
def test_trailing_measures_from_the_best_point(period: str) -> None:
    """+100 then -50 reads 50, and 0 without it."""
    for trailing, expected in ((True, 50.0), (False, 0.0)):
        there = world(limit("loss", max=500.0, period=period, trailing=trailing))
        for usdt in (1_000.0, 1_100.0, 1_050.0):
            there.step(balances(USDT=usdt))
            there.wait(60)
        assert loss(there, "loss") == expected


def test_midnight_begins_a_day_and_monday_a_week() -> None:
    """The baseline is the last settled equity before the start of the period."""
    there = world(limit("daily_loss", max=500.0), limit("weekly_loss", max=500.0))
    there.step(balances(USDT=1_000.0))
    there.step(balances(USDT=900.0))
    there.wait(TO_MIDNIGHT - 1)
    assert (loss(there), loss(there, "weekly_loss")) == (100.0, 100.0)
    there.wait(1)  # Saturday
    assert (loss(there), loss(there, "weekly_loss")) == (0.0, 100.0)
    there.step(balances(USDT=870.0))
    assert (loss(there), loss(there, "weekly_loss")) == (30.0, 130.0)
    there.wait(2 * DAY)  # Monday
    assert (loss(there), loss(there, "weekly_loss")) == (0.0, 0.0)


def test_the_first_report_of_a_day_is_not_its_baseline() -> None:
    """A loss between the last report of a day and the first of the next counts."""
    there = world(limit("daily_loss", max=500.0))
    there.step(balances(USDT=1_000.0))
    there.now_ns += int((TO_MIDNIGHT + 5) * SECOND)
    there.step(balances(USDT=960.0))
    assert loss(there) == 40.0


@pytest.mark.parametrize("limits", [(), (limit("daily_loss", max=500.0),)], ids=["none", "limit"])
def test_the_baseline_is_the_last_settled_equity_before_the_start(limits: Any) -> None:
    """Also when there was no event at midnight, or equity was unknown then."""
    there = world(*limits, portfolio={"max_age": {"price": 1e9, "balance": 600.0}})
    there.step(balances(USDT=1_000.0))
    there.now_ns += int((TO_MIDNIGHT + 5) * SECOND)
    there.step(balances(USDT=960.0))
    assert there.portfolio.pnl_day == -40.0
    assert [b.value for b in there.view.breakers] == [40.0] * len(limits)


@pytest.mark.parametrize(("kind", "days"), [("daily_loss", 1), ("weekly_loss", 3)])
def test_the_best_point_is_of_its_period(kind: str, days: int) -> None:
    """A high point from before the period is not the high point of the period."""
    there = world(limit(kind, max=500.0, trailing=True))
    there.each([balances(USDT=1_000.0), balances(USDT=1_100.0), balances(USDT=1_050.0)])
    assert loss(there, kind) == 50.0
    there.wait(TO_MIDNIGHT + (days - 1) * DAY)
    assert loss(there, kind) == 0.0
    there.each([balances(USDT=1_060.0), balances(USDT=1_040.0)])
    assert loss(there, kind) == 20.0


def test_a_clock_step_backwards_does_not_restart_a_day() -> None:
    """Dates only move forward: an NTP step over midnight and back resets no loss."""
    there = world(limit("daily_loss", max=500.0))
    there.step(balances(USDT=1_000.0))
    there.wait(TO_MIDNIGHT)
    there.step(balances(USDT=950.0))
    stepped_back = BEGIN_WALL_NS + there.now_ns - 30 * SECOND
    for usdt, wall_ns in ((940.0, stepped_back), (930.0, stepped_back + 31 * SECOND)):
        there.now_ns += SECOND
        there.engine.step([balances(USDT=usdt)], now_ns=there.now_ns, wall_ns=wall_ns)
    assert loss(there) == 70.0


def test_rolling_hours_do_not_reset_at_midnight() -> None:
    """At midnight the day's loss is 0; that of 24 h goes on until its minute is a day old."""
    there = world(limit("daily_loss", max=500.0), limit("loss", max=500.0, period="24h"))
    there.step(balances(USDT=1_000.0))
    there.wait(TO_MIDNIGHT - 600)
    there.step(balances(USDT=900.0))
    there.wait(601)
    assert (loss(there), loss(there, "loss")) == (0.0, 100.0)
    there.wait(DAY - 602)
    assert loss(there, "loss") == 100.0
    there.wait(62)
    assert loss(there, "loss") == 0.0


def test_rolling_hours_grow_by_time_alone() -> None:
    """A profit that has left the window no longer offsets the loss after it."""
    there = world(limit("loss", max=50.0, period=1))
    there.step(balances(USDT=1_000.0))
    there.wait(60)
    there.step(balances(USDT=1_100.0))
    there.wait(600)
    there.step(balances(USDT=1_020.0))
    assert loss(there, "loss") == 0.0
    there.wait(HOUR - 500)
    assert loss(there, "loss") == 80.0
    assert there.state("loss", "account") == "open"


# -- recovery -------------------------------------------------------------------------------------


def test_period_opens_until_the_end_of_the_day() -> None:
    """It stays open although the loss is recovered, and closes when the day ends."""
    there = world(limit("daily_loss", max=100.0))
    there.each([balances(USDT=1_000.0), balances(USDT=890.0), balances(USDT=1_000.0)])
    there.wait(TO_MIDNIGHT - 1)
    assert there.state("daily_loss", "account") == "open"
    there.wait(1)
    assert there.state("daily_loss", "account") == "closed"


@pytest.mark.parametrize("params", [{"kind": "weekly_loss"}, {"kind": "loss", "period": "week"}])
def test_period_of_a_week_ends_on_monday(params: dict[str, Any]) -> None:
    """A trip on Friday stays open over two midnights and closes on Monday."""
    there = world(limit(name="week", max=100.0, **params))
    there.each([balances(USDT=1_000.0), balances(USDT=890.0), balances(USDT=1_000.0)])
    there.wait(TO_MIDNIGHT + 2 * DAY - 1)
    assert there.state("week", "account") == "open"
    there.wait(1)
    assert there.state("week", "account") == "closed"


@pytest.mark.parametrize(("per", "scope"), [("venue", "venue:kraken"), ("strategy", "strategy:mm")])
def test_period_is_each_books_own(per: str, scope: str) -> None:
    """The losses of a venue and of a strategy reset at the end of the day too."""
    there = world(limit("daily_loss", max=100.0, per=per))
    there.step(balances(USDT=1_000.0))
    there.step(balances(USDT=800.0), pnl(-200.0, strategy="mm"))
    there.wait(TO_MIDNIGHT - 1)
    assert (there.state("daily_loss", scope), there.level()) == ("open", "allow")
    there.wait(1)
    assert (there.state("daily_loss", scope), loss(there, scope=scope)) == ("closed", 0.0)


def test_a_trip_before_midnight_stays_open_for_an_hour() -> None:
    """A trip minutes before midnight stays open for at least an hour."""
    there = world(limit("daily_loss", max=100.0))
    there.step(balances(USDT=1_000.0))
    there.wait(TO_MIDNIGHT - 120)
    there.step(balances(USDT=890.0))
    there.wait(HOUR - 1)
    assert loss(there) == 0.0
    assert there.state("daily_loss", "account") == "open"
    there.wait(1)
    assert there.state("daily_loss", "account") == "closed"


def test_period_of_rolling_hours_closes_when_clear() -> None:
    """`recover = "period"` of rolling hours closes as soon as the loss is below its bound."""
    there = world(limit("loss", max=100.0, period="24h"))
    there.each([balances(USDT=1_000.0), balances(USDT=890.0)])
    assert there.state("loss", "account") == "open"
    there.step(balances(USDT=901.0))
    assert there.state("loss", "account") == "closed"


# -- flows ----------------------------------------------------------------------------------------


def test_flows_are_no_loss_and_no_profit() -> None:
    """A withdrawal is no loss; a deposit hides no loss and raises no high point."""
    there = world(
        limit("daily_loss", max=500.0),
        limit("loss", max=500.0, period="24h", trailing=True, per="venue"),
    )
    there.step(balances(USDT=1_000.0))
    there.wait(1)
    there.step(flow(-300.0))
    there.step(balances(USDT=690.0))
    there.wait(1)
    there.step(flow(5_000.0))
    assert loss(there) == 10.0
    assert loss(there, "loss", "venue:kraken") == 10.0
    assert there.portfolio.pnl_day == -10.0


@pytest.mark.parametrize("per", ["account", "venue"])
@pytest.mark.parametrize("period", ["day", "24h"])
@pytest.mark.parametrize("trailing", [True, False])
def test_a_deposit_reported_after_its_balance(per: str, period: str, trailing: bool) -> None:
    """It counts as profit until it is reported; then high point and base exclude it."""
    there = world(limit("loss", max=500.0, per=per, period=period, trailing=trailing))
    scope = "account" if per == "account" else "venue:kraken"
    there.step(balances(USDT=1_000.0))
    there.wait(100)
    there.step(balances(USDT=1_020.0))
    there.wait(100)
    deposit = flow(5_000.0, at=at(there, 0))
    there.step(balances(USDT=6_020.0))
    there.wait(100)
    there.step(deposit)
    assert loss(there, "loss", scope) == 0.0
    there.step(balances(USDT=5_990.0))
    assert loss(there, "loss", scope) == (30.0 if trailing else 10.0)


def test_a_deposit_of_yesterday_reported_today() -> None:
    """The baseline of the day includes it: it is no loss of today."""
    there = world(limit("daily_loss", max=500.0))
    there.step(balances(USDT=1_000.0))
    there.wait(TO_MIDNIGHT - 60)
    deposit = flow(5_000.0, at=at(there, 0))
    there.step(balances(USDT=6_000.0))
    there.wait(120)
    there.step(deposit)
    assert loss(there) == 0.0
    there.step(balances(USDT=5_975.0))
    assert loss(there) == 25.0


def test_a_deposit_raises_no_peak() -> None:
    """Neither when it is reported before the balance that includes it nor after it."""
    there = world(limit("drawdown", max=0.2))
    there.step(balances(USDT=1_000.0))
    there.wait(20)
    there.step(balances(USDT=1_100.0))
    there.wait(20)
    deposit = flow(1_100.0, at=at(there, 0))
    there.step(balances(USDT=2_200.0))
    there.step(deposit)
    there.step(balances(USDT=2_090.0))
    assert loss(there, "drawdown") == pytest.approx(0.05)
    there.wait(1)
    there.step(flow(2_090.0))
    assert loss(there, "drawdown") == pytest.approx(0.05)


@pytest.mark.parametrize("amount", [-300.0, 5.0])
def test_a_flow_in_the_minute_of_a_high_point(amount: float) -> None:
    """A flow after the high point of the last hours does not change the high point."""
    there = world(limit("loss", max=500.0, period="1h", trailing=True))
    for usdt in (1_000.0, 1_040.0, 1_030.0):
        there.step(balances(USDT=usdt))
        there.wait(1)
    there.step(balances(USDT=1_030.0 + amount))
    late = flow(amount, at=at(there, 0))
    there.wait(1)
    there.step(late)
    assert loss(there, "loss") == pytest.approx(10.0)


def test_a_flow_that_is_older_than_the_account_is_none() -> None:
    """Deposits from before the first balances are in them: neither loss nor profit."""
    there = world(limit("daily_loss", max=100.0), limit("drawdown", max=0.01), loss_limit())
    there.step(balances(USDT=1_000.0))
    there.wait(10)
    there.step(flow(900.0, at=at(there, -5_000)))
    there.step(balances("mexc", USDT=500.0))
    there.wait(10)
    there.step(flow(400.0, venue="mexc", at=at(there, -5_000)))
    there.step(balances("mexc", USDT=500.0))
    assert (loss(there), loss(there, "drawdown"), there.loss) == (0.0, 0.0, 0.0)
    there.step(balances("mexc", USDT=497.0))
    assert loss(there) == 3.0


def test_a_partial_equity_raises_no_peak() -> None:
    """Neither a balance in the middle of a report nor one without a price sets a peak."""
    there = world(limit("drawdown", max=0.5), limit("daily_loss", max=500.0, trailing=True))
    there.each([price("BTC/USDT", 100.0), balances(USDT=1_000.0)])
    there.wait(31)
    there.step(balance("USDT", 1_500.0))  # a sale: the other side of it is to come
    there.step(balance("USDT", 1_000.0))
    there.wait(5)
    there.step(balances(USDT=1_400.0, XYZ=1.0))
    assert there.portfolio.equity is None
    there.step(balances(USDT=990.0))
    assert loss(there, "drawdown") == pytest.approx(0.01)
    assert loss(there) == 10.0


# -- drawdown -------------------------------------------------------------------------------------


def test_drawdown_trips_and_waits_for_an_operator() -> None:
    """A new peak alone does not close it; a rebase makes the present the peak."""
    there = world(limit("drawdown", max=0.1), portfolio={"initial_capital": 1_000.0})
    for usdt in (1_000.0, 2_000.0, 1_800.0):
        there.step(balances(USDT=usdt))
    assert there.state("drawdown", "account") == "closed"
    there.step(balances(USDT=1_790.0))
    assert there.state("drawdown", "account") == "open"
    assert there.operate("reset").status == 409
    assert there.operate("reset", rebase=True).status == 200
    assert loss(there, "drawdown") == 0.0
    assert there.state("drawdown", "account") == "closed"


def test_a_rebase_restarts_every_period() -> None:
    """A rebase restarts every period of the account, which would trip again otherwise."""
    there = world(limit("daily_loss", max=50.0), limit("loss", max=50.0, period="24h"))
    there.each([balances(USDT=1_000.0), balances(USDT=900.0)])
    assert there.operate("reset").status == 409
    assert there.operate("reset", rebase=True).status == 200
    there.step(balances(USDT=880.0))
    assert (loss(there), loss(there, "loss")) == (20.0, 20.0)


# -- venues ---------------------------------------------------------------------------------------


def test_a_venue_has_its_own_loss() -> None:
    """A venue's loss is of its balances and its contracts' unrealised P&L."""
    there = world(limit("daily_loss", max=100.0, per="venue"))
    there.each([balances(USDT=1_000.0), balances("mexc", USDT=2_000.0)])
    there.step(price("BTC/USDT:USDT", 100.0, "mexc"))
    there.step(ev.Position(venue="mexc", symbol="BTC/USDT:USDT", quantity=2.0, entry_price=100.0))
    there.step(price("BTC/USDT:USDT", 70.0, "mexc"))
    there.step(balances(USDT=990.0))
    assert loss(there, scope="venue:kraken") == 10.0
    assert loss(there, scope="venue:mexc") == 60.0
    there.step(price("BTC/USDT:USDT", 40.0, "mexc"))
    assert there.state("daily_loss", "venue:mexc") == "open"
    assert there.state("daily_loss") == "closed"


def test_a_venue_is_evaluated_when_it_is_settled() -> None:
    """A buy changes two balances: between the two reports there is no loss."""
    there = world(limit("daily_loss", max=100.0, per="venue"))
    there.each([price("BTC/USDT", 100.0), balances(USDT=1_000.0)])
    there.step(balance("USDT", 500.0))
    there.wait(0.5)
    there.step(balance("BTC", 4.9))
    assert loss(there, scope="venue:kraken") == 0.0
    there.wait(2)
    assert loss(there, scope="venue:kraken") == pytest.approx(10.0)
    there.step(price("BTC/USDT", 90.0))
    assert loss(there, scope="venue:kraken") == pytest.approx(59.0)


def test_a_venue_that_has_not_reported_is_unknown() -> None:
    """A venue without a report or a price is unknown, not zero."""
    there = world(limit("daily_loss", max=100.0, per="venue"))
    there.step(ev.Heartbeat(venue="kraken"))
    there.step(balances("mexc", USDT=1.0, BTC=1.0))
    kraken, mexc = (there.breaker("daily_loss", f"venue:{v}").unknown for v in ("kraken", "mexc"))
    assert "kraken has not reported its balances" in str(kraken)
    assert "BTC has no price" in str(mexc)


def test_a_contract_without_a_mark_is_unknown_for_its_venue() -> None:
    """Its P&L is unknown, not 0, and enters at the first mark; another venue's loss is known."""
    there = world(limit("daily_loss", max=100.0, per="venue"))
    there.step(balances(USDT=1_000.0), balances("mexc", USDT=1_000.0))
    there.step(ev.Position(venue="mexc", symbol="BTC/USDT:USDT", quantity=2.0, entry_price=100.0))
    there.step(balances("mexc", USDT=1_000.0))
    assert "no mark" in str(there.breaker("daily_loss", "venue:mexc").unknown)
    there.step(balances(USDT=990.0))
    assert loss(there, scope="venue:kraken") == 10.0
    there.step(price("BTC/USDT:USDT", 99.0))
    assert loss(there, scope="venue:mexc") == 0.0
    there.step(price("BTC/USDT:USDT", 98.0))
    assert loss(there, scope="venue:mexc") == 2.0


def test_an_old_balance_of_a_venue_is_unknown() -> None:
    """The loss of a venue without reports is unknown; the other's stays known."""
    there = world(
        limit("daily_loss", max=100.0, per="venue"), portfolio={"max_age": {"balance": 60.0}}
    )
    there.step(balances(USDT=1_000.0), balances("mexc", USDT=1_000.0))
    there.wait(60)
    there.step(balances("mexc", USDT=990.0))
    assert loss(there, scope="venue:kraken") == 0.0
    there.wait(0.001)
    unknown = there.breaker("daily_loss", "venue:kraken").unknown
    assert unknown == "kraken has not reported its balances for 60 s"
    assert loss(there, scope="venue:mexc") == 10.0


def test_a_price_that_comes_late_is_no_profit_of_its_venue() -> None:
    """An asset that was left out enters as a flow, for the venue and the account."""
    there = world(limit("daily_loss", max=100.0, per="venue", trailing=True))
    there.step(balances(USDT=1_000.0))
    there.step(balances(USDT=1_000.0, XYZ=50.0))
    there.wait(31)
    there.step(price("XYZ/USDT", 10.0))
    there.step(balances(USDT=990.0, XYZ=50.0))
    assert loss(there, scope="venue:kraken") == 10.0


# -- strategies -----------------------------------------------------------------------------------


def test_a_strategy_has_its_own_loss() -> None:
    """Its book from its first event on: realised, unrealised, fees and `pnl`."""
    there = world(limit("daily_loss", max=100.0, per="strategy"))
    there.step(fill("buy", 1.0, 100.0, strategy="mm", fee=1.0))
    assert loss(there, scope="strategy:mm") == 1.0
    there.step(price("BTC/USDT:USDT", 80.0))
    assert loss(there, scope="strategy:mm") == 21.0
    there.step(pnl(-50.0, strategy="mm"))
    there.step(pnl(-99.0, strategy="other"))
    assert loss(there, scope="strategy:mm") == 71.0
    assert loss(there, scope="strategy:other") == 99.0
    there.step(pnl(-2.0, strategy="other"))
    assert there.state("daily_loss", "strategy:other") == "open"


def test_a_strategy_without_a_mark_is_unknown() -> None:
    """A position whose price has expired is unknown, not worth its entry."""
    there = World(limit("daily_loss", max=100.0, per="strategy"))
    there.step(fill("buy", 1.0, 100.0, strategy="mm"))
    there.wait(301)
    unknown = str(there.breaker("daily_loss", "strategy:mm").unknown)
    assert unknown.startswith("BTC/USDT:USDT's last price is 301 s old; max_age.price is 300")
    there.step(price("BTC/USDT:USDT", 90.0))
    assert loss(there, scope="strategy:mm") == 10.0


def test_a_limit_that_comes_later_measures_from_then_on() -> None:
    """An added limit counts no loss from before the reload; others keep their values."""
    there = world(limit("daily_loss", max=500.0))
    there.each([balances(USDT=1_000.0), balances(USDT=900.0), pnl(-70.0, strategy="mm")])
    more = (
        limit("weekly_loss", max=500.0, per="venue"),
        limit("loss", max=500.0, per="strategy"),
    )
    there.configure(limit("daily_loss", max=500.0), *more)
    there.each([balances(USDT=890.0), pnl(-5.0, strategy="mm")])
    assert loss(there) == 110.0
    assert loss(there, "weekly_loss", "venue:kraken") == 10.0
    assert loss(there, "loss", "strategy:mm") == 5.0
    there.configure(limit("daily_loss", max=500.0))
    there.each([balances(USDT=700.0), pnl(-6.0, strategy="mm")])
    there.configure(limit("daily_loss", max=500.0), *more)
    there.each([balances(USDT=690.0), pnl(-7.0, strategy="mm")])
    assert loss(there, "weekly_loss", "venue:kraken") == 10.0
    assert loss(there, "loss", "strategy:mm") == 7.0


# -- without balances, and with the first ones ----------------------------------------------------


def test_the_first_balances_are_no_loss() -> None:
    """Equity counted from the capital gives way to balances; what was lost before stays lost."""
    from_capital = {"initial_capital": 1_000.0, "venues": ()}
    there = world(limit("daily_loss", max=100.0), portfolio=from_capital)
    there.step(pnl(-40.0))
    assert loss(there) == 40.0
    there.step(balances(USDT=500.0))
    there.wait(30)  # others may report as well
    assert loss(there) == 40.0
    there.step(balances(USDT=495.0))
    assert loss(there) == 45.0


@pytest.mark.parametrize("venues", [(), ("kraken",)])  # equity is known before the reload, or not
def test_a_new_capital_is_no_profit(venues: tuple[str, ...]) -> None:
    """A reload with another capital is neither profit nor loss where equity is counted from it."""
    there = world(
        limit("daily_loss", max=100.0), portfolio={"initial_capital": 1_000.0, "venues": venues}
    )
    there.step(pnl(-40.0))
    for capital in (5_000.0, 500.0):
        there.configure(
            limit("daily_loss", max=100.0), portfolio=PortfolioConfig(initial_capital=capital)
        )
        assert loss(there) == 40.0
        assert there.portfolio.unit_value == pytest.approx(1.0 - 40.0 / capital)


# -- losing streaks -------------------------------------------------------------------------------


def trade(there: World, number: int, sold_at: float, **more: Any) -> None:
    """A strategy buys at 100 and sells."""
    there.step(fill("buy", 1.0, 100.0, id=f"b{number}", strategy="mm"))
    there.step(fill("sell", 1.0, sold_at, id=f"s{number}", strategy="mm", **more))


def test_losing_closes_in_a_row() -> None:
    """Openings do not count, a fee may make a loss, no loss ends the run; it trips at the bound."""
    there = world(limit("loss_streak", max=3))
    seen = []
    for number, (sold_at, fee) in enumerate(
        ((99.0, 0.0), (100.5, 1.0), (100.0, 0.0), (99.0, 0.0), (100.0, 0.1))
    ):
        trade(there, number, sold_at, fee=fee)
        seen.append(loss(there, "loss_streak", "strategy:mm"))
    assert seen == [1.0, 2.0, 0.0, 1.0, 2.0]
    there.step(pnl(-1.0, strategy="other"))
    assert there.state("loss_streak", "strategy:mm") == "closed"
    there.step(pnl(-1.0, strategy="mm"))
    assert there.state("loss_streak", "strategy:mm") == "open"
    assert there.breaker("loss_streak", "strategy:mm").reason == "3 losing closes in a row"


def exit_in_parts(there: World, order: str, *prices: float, venue: str = "kraken") -> None:
    """A strategy buys at 100 and sells as much by one order, in as many fills as prices."""
    there.step(fill("buy", float(len(prices)), 100.0, id=f"b{order}", strategy="mm", venue=venue))
    for number, each in enumerate(prices):
        more = {"id": f"s{order}{number}", "order_id": order, "venue": venue}
        there.step(fill("sell", 1.0, each, strategy="mm", **more))


def test_the_fills_of_one_order_are_one_close() -> None:
    """Four losing fills of an exit are one losing close, and a gain on the whole is none."""
    there = world(limit("loss_streak", max=3))
    seen = []
    exit_in_parts(there, "o1", 99.0, 98.0, 97.0, 96.0)
    seen.append(loss(there, "loss_streak", "strategy:mm"))
    exit_in_parts(there, "o2", 99.0, 102.0)
    seen.append(loss(there, "loss_streak", "strategy:mm"))
    exit_in_parts(there, "o3", 101.0, 98.0)
    seen.append(loss(there, "loss_streak", "strategy:mm"))
    exit_in_parts(there, "o3", 99.0, venue="mexc")  # another venue's order
    seen.append(loss(there, "loss_streak", "strategy:mm"))
    assert seen == [1.0, 0.0, 1.0, 2.0]
    assert there.state("loss_streak", "strategy:mm") == "closed"
    trade(there, 4, 99.0)  # without an order's id: by itself
    assert there.state("loss_streak", "strategy:mm") == "open"


def test_the_fills_of_one_order_count_as_one_breach() -> None:
    """With `breaches = 2` a second losing exit is needed, not a second fill."""
    there = world(limit("loss_streak", max=1, breaches=2))
    exit_in_parts(there, "o1", 99.0, 98.0)
    assert there.state("loss_streak", "strategy:mm") == "closed"
    exit_in_parts(there, "o2", 99.0)
    assert there.state("loss_streak", "strategy:mm") == "open"


def test_the_fills_of_one_order_are_one_probe() -> None:
    """Two good fills are one good probe; a fill that makes the whole a loss is a bad one."""
    there = world(limit("loss_streak", max=1, recover=exact(10.0, probes=2)))
    there.step(pnl(-1.0, 1, "mm"))
    there.wait(10)
    exit_in_parts(there, "o1", 101.0, 101.0)
    assert there.state("loss_streak", "strategy:mm") == "half_open"
    exit_in_parts(there, "o2", 101.0)
    assert there.state("loss_streak", "strategy:mm") == "closed"
    there.step(pnl(-1.0, 2, "mm"))
    there.wait(20)
    exit_in_parts(there, "o3", 101.0, 98.0)
    assert there.state("loss_streak", "strategy:mm") == "open"


def test_a_losing_streak_closes_after_its_wait() -> None:
    """It closes after an hour with an empty streak."""
    there = world(limit("loss_streak", max=2))
    there.each([pnl(-1.0, 1, "mm"), pnl(-1.0, 2, "mm")])
    there.wait(HOUR - 1)
    assert there.state("loss_streak", "strategy:mm") == "open"
    there.wait(1)
    assert there.state("loss_streak", "strategy:mm") == "closed"
    there.step(pnl(-1.0, 3, "mm"))
    assert loss(there, "loss_streak", "strategy:mm") == 1.0


def test_closes_probe_a_half_open_streak() -> None:
    """With probes, a close without a loss is a good one, and a loss a bad one."""
    there = world(limit("loss_streak", max=1, recover=exact(10.0, probes=2)))
    there.step(pnl(-1.0, 1, "mm"))
    there.wait(10)
    assert there.state("loss_streak", "strategy:mm") == "half_open"
    there.each([pnl(1.0, 2, "mm"), pnl(-1.0, 3, "mm")])
    assert there.state("loss_streak", "strategy:mm") == "open"
    there.wait(20)
    there.each([pnl(1.0, 4, "mm"), pnl(0.0, 5, "mm")])
    assert there.state("loss_streak", "strategy:mm") == "closed"


# -- what is shown, kept and refused --------------------------------------------------------------


def test_the_days_pnl_is_shown_without_a_limit() -> None:
    """None before there is equity; 0 from midnight on, though nothing was reported since."""
    there = world()
    assert there.portfolio.pnl_day is None
    there.each([balances(USDT=1_000.0), balances(USDT=1_025.0)])
    assert there.portfolio.pnl_day == 25.0
    there.now_ns += int(TO_MIDNIGHT * SECOND)
    there.engine.step([], now_ns=there.now_ns, wall_ns=BEGIN_WALL_NS + there.now_ns)
    before = plain(there.engine)
    assert there.portfolio.pnl_day == 0.0
    assert plain(there.engine) == before


def test_a_restart_forgets_nothing() -> None:
    """At every cut the rest of the story gives the same state, bit for bit."""
    there = world(*every_loss())
    there.each([price("BTC/USDT", 100.0), balances(USDT=1_000.0, BTC=1.0)])
    for number, usdt in enumerate((1_030.0, 1_010.0, 960.0, 1_100.0)):
        trade(there, number, 90.0 + 5 * number, fee=0.1)
        there.step(balance("USDT", usdt))
        there.wait(2_000)
        there.step(flow(10.0 + number, at=at(there, -2_001)))
        there.step(price("BTC/USDT", 100.0 + number))
    there.wait(DAY)
    whole = Engine(there.config)
    for cut, step in enumerate(there.log):
        if cut % 7 == 0:
            restored = Engine.restore(whole.snapshot())
            for later in there.log[cut:]:
                run(restored, *later)
            assert plain(restored) == plain(there.engine)
        run(whole, *step)


@FEW
@given(STEPS)
def test_any_story_may_be_cut(steps: list[Any]) -> None:
    """Whatever happens, a restart changes nothing, and no value is without a number."""
    limits = (*every_loss(), *story_limits())
    there = World(*limits, targets=OMS, portfolio=PORTFOLIO, max_scopes=32)
    begun = Engine(there.config)
    for number, what in enumerate(steps):
        play(there, number, what)
        assert not any(b.value is not None and isnan(b.value) for b in there.view.breakers)
    for cut, step in enumerate(there.log):
        if cut % 5 == 0:
            restored = Engine.restore(begun.snapshot())
            for later in there.log[cut:]:
                run(restored, *later)
            assert plain(restored) == plain(there.engine)
        run(begun, *step)


@pytest.mark.parametrize("period", ["month", "0h", "169h", "-1h", "nanh", 0, 1e9, float("nan"), ""])
def test_periods_that_are_none(period: Any) -> None:
    """A fault lists the permitted values."""
    (fault,) = faults(LossParams, max=1.0, period=period)
    assert fault.startswith("period: must be")


@pytest.mark.parametrize("period", ["24h", "24", 24, 24.0, "24.0h"])
def test_hours_as_text_and_as_a_number(period: Any) -> None:
    """They are the same period."""
    there = world(limit("loss", max=1.0, period=period))
    there.each([balances(USDT=1_000.0), balances(USDT=990.0)])
    reason = there.breaker("loss", "account").reason
    assert reason == "loss 10.00 over 1.00 in the last 24 h"


@pytest.mark.parametrize("kind", ["portfolio_loss", "drawdown"])
def test_a_ratio_of_exactly_the_bound_does_not_trip(kind: str) -> None:
    """500 of 10,000 is 5 %, not over it, though 1 - 0.95 is in binary."""
    config = PortfolioConfig(initial_capital=10_000.0, venues=("kraken",))
    world = World(limit(kind, max=0.05), portfolio=config)
    world.step(balances(USDT=10_000.0))
    world.step(balances(USDT=9_500.0))
    assert world.state(kind, "account") == "closed"
    world.step(balances(USDT=9_499.99))
    assert world.state(kind, "account") == "open"
