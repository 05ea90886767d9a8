"""A start with another `portfolio.reference`: nothing measured before counts, and trading waits."""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig, dump
from riskmon.core.engine import Engine
from tests.core import OMS, World, balances, limit, plain, price

VENUES = ("kraken",)


def configured(reference: str, *limits: LimitConfig) -> ev.Configured:
    """The configuration of a start."""
    portfolio = PortfolioConfig(reference=reference, venues=VENUES)
    return ev.Configured(config=dump(EngineConfig(portfolio=portfolio, limits=limits, targets=OMS)))


def restarted(*limits: LimitConfig) -> World:
    """An account of 1 BTC and 10,000 USDT, lost 10 % of, that starts with BTC as its reference."""
    world = World(*limits, portfolio=PortfolioConfig(venues=VENUES), targets=OMS)
    world.step(balances("kraken", USDT=10_000, BTC=1), price("BTC/USDT", 10_000))
    world.step(price("BTC/USDT", 8_000))
    assert world.view.portfolio.unit_value == 0.9
    world.engine = Engine.restore(world.engine.snapshot())
    world.step(configured("BTC", *limits))
    return world


def test_another_reference_holds_the_account() -> None:
    """The account is at halt, its orders are cancelled, and the reason names both references."""
    world = restarted()
    assert (world.level(), world.state("reference", "account")) == ("halt", "open")
    assert [one.limit for one in world.sweeps] == ["reference"]
    (held,) = [one for one in world.view.breakers if one.limit == "reference"]
    assert held.reason.startswith("portfolio.reference was USDT and is BTC")
    assert (held.recovers, held.holds) == ("by an operator", "start")
    world.wait(86_400)
    assert world.level() == "halt"


def test_what_was_measured_before_does_not_count() -> None:
    """Equity of 2.25 BTC is no loss of 20,000 USDT: nothing trips while the account is held."""
    world = restarted(
        limit("portfolio_loss", max=0.15),
        limit("drawdown", max=0.15),
        limit("daily_loss", max=2500.0),
        limit("daily_loss", name="venue_loss", per="venue", max=2500.0),
        limit("loss", name="rolling", period="24h", max=2500.0),
    )
    figures = world.view.portfolio
    assert (figures.equity, figures.initial_capital) == (2.25, 2.25)
    assert (figures.unit_value, figures.drawdown_ratio, figures.pnl_day) == (1.0, 0.0, 0.0)
    assert [one.limit for one in world.view.breakers if one.state == "open"] == ["reference"]
    world.step(balances("kraken", USDT=6_000, BTC=1))
    assert world.view.portfolio.unit_value == 1.75 / 2.25
    assert world.state("drawdown", "account") == "open"


def test_only_a_reset_with_rebase_ends_it() -> None:
    """A reset without rebase is refused with the cure; with it the account trades again."""
    world = restarted()
    world.confirm()
    refused = world.operate("reset")
    assert refused.status == 409
    assert refused.detail.endswith("reset the account with rebase")
    assert world.operate("reset", rebase=True).level == "allow"
    assert world.view.portfolio.initial_capital == 2.25


def test_a_further_start_keeps_holding() -> None:
    """The breaker is stored: a start with the same new reference neither ends nor repeats it."""
    world = restarted()
    world.engine = Engine.restore(world.engine.snapshot())
    world.step(configured("BTC"))
    assert world.level() == "halt"
    assert len({one.incident for one in world.sweeps}) == 1


def test_an_account_without_facts_may_choose_its_reference() -> None:
    """The first start, which begins with the defaults, and one after nothing was reported."""
    engine = Engine()
    for now_ns, reference in enumerate(("EUR", "BTC"), 10**9):
        engine.step([configured(reference)], now_ns=now_ns, wall_ns=now_ns)
        assert engine.levels.get("account", 3) == 3
    assert "reference" not in plain(engine).partition("'breakers'")[2].partition("'scopes'")[0]
