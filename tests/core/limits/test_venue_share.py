"""`venue_share`: the largest share of the account at one venue."""

from __future__ import annotations

import pytest

from riskmon.core.book.config import PortfolioConfig
from tests.core import World, balances, fill, limit, price

BOTH = PortfolioConfig(venues=("kraken", "mexc"))


def share(world: World) -> float | None:
    """The value of the limit."""
    return world.breaker("venue_share", "account").value


def test_the_largest_venue_counts() -> None:
    """600 of 1000, and 0.01 BTC more: 1,200 of 1,600 at 60,000."""
    world = World(limit("venue_share", max=0.7), portfolio=BOTH)
    world.step(price("BTC/USDT", 60_000.0))
    world.step(balances("kraken", USDT=600.0), balances("mexc", USDT=400.0))
    assert share(world) == pytest.approx(0.6)
    assert world.breaker("venue_share", "account").warning is True
    world.step(balances("kraken", USDT=600.0, BTC=0.01))
    assert share(world) == pytest.approx(0.75)
    assert (world.level(), world.state("venue_share", "account")) == ("allow", "closed")


def test_contracts_count_where_they_are() -> None:
    """A profit of 200 on a contract at mexc: 600 of 1200 there."""
    world = World(limit("venue_share", max=0.7), portfolio=BOTH)
    world.step(balances("kraken", USDT=600.0), balances("mexc", USDT=400.0))
    world.step(fill("buy", 1.0, 100.0, venue="mexc"))
    world.step(price("BTC/USDT:USDT", 300.0))
    assert share(world) == pytest.approx(0.5)


def test_it_trips_and_recovers_when_it_says_so() -> None:
    """`on_breach = "trip"` halts the account until the share is clear of its bound."""
    world = World(limit("venue_share", max=0.7, on_breach="trip"), portfolio=BOTH)
    world.step(balances("kraken", USDT=800.0), balances("mexc", USDT=200.0))
    assert (
        world.breaker("venue_share", "account").reason
        == "80.0% of equity is at one venue, over 70.0%"
    )
    assert world.level() == "halt"
    world.step(balances("mexc", USDT=800.0))
    assert world.level() == "allow"


def test_it_is_unknown_without_equity_and_without_balances() -> None:
    """The reason names what is missing."""
    world = World(limit("venue_share", max=0.7), portfolio=BOTH)
    world.step(balances("kraken", USDT=800.0))
    assert "mexc" in (world.breaker("venue_share", "account").unknown or "")
    world = World(limit("venue_share", max=0.7), portfolio=PortfolioConfig(initial_capital=100.0))
    world.step(fill("buy", 1.0, 100.0))
    unknown = world.breaker("venue_share", "account").unknown
    assert unknown == "no venue has reported its balances: report them"
