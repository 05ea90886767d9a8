"""What the engine shows of the portfolio, by hand-computed figures."""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.portfolio_view import LeftOutView, PortfolioView, StrategyView
from tests.core import World, balance, balances, fill, price

PERP = "BTC/USDT:USDT"


def shown(world: World) -> PortfolioView:
    """The portfolio as it is shown."""
    return world.engine.view().portfolio


def long_fifty() -> World:
    """10,000 USDT, and 50 contracts that a strategy bought at 100."""
    world = World()
    world.step(balances(USDT=10_000.0), price(PERP, 100.0))
    world.step(fill("buy", 50.0, 100.0, strategy="mm1"))
    return world


def test_exposure_and_leverage_count_the_orders_that_rest() -> None:
    """50 contracts are 5,000; an order for 20 more may make them 7,000, 70 % of equity."""
    world = long_fifty()
    assert (shown(world).exposure, shown(world).leverage) == (5_000.0, 0.5)
    assert world.check(symbol=PERP, quantity=20.0, price=100.0, id="o1").allowed
    assert (shown(world).exposure, shown(world).exposure_worst) == (5_000.0, 7_000.0)
    assert shown(world).leverage == 0.7


def test_an_order_that_closes_adds_no_exposure() -> None:
    """Of orders on both sides the larger side counts; a sell of 20 makes 50 smaller."""
    world = long_fifty()
    assert world.check(symbol=PERP, side="sell", quantity=20.0, price=100.0, id="o1").allowed
    assert (shown(world).exposure_worst, shown(world).leverage) == (5_000.0, 0.5)


def test_exposure_without_a_price_is_unknown() -> None:
    """A position without a mark makes exposure and leverage unknown; they are not 0."""
    world = World()
    world.step(balances(USDT=10_000.0))
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=50.0, entry_price=100.0))
    assert (shown(world).exposure, shown(world).exposure_worst) == (None, None)
    assert shown(world).leverage is None


def test_the_pnl_of_each_strategy() -> None:
    """Realised and unrealised P&L of a strategy's own fills, and of its `pnl` events."""
    world = long_fifty()
    world.step(fill("sell", 10.0, 100.0, strategy="mm2", venue="mexc"), price(PERP, 110.0))
    world.step(fill("sell", 20.0, 110.0, strategy="mm1"))  # + 200, and 30 left: + 300
    world.step(ev.Pnl(amount=-50.0, id="p1", strategy="mm1"))
    assert sorted(shown(world).strategies, key=lambda one: one.strategy) == [
        StrategyView(strategy="mm1", pnl=450.0),
        StrategyView(strategy="mm2", pnl=-100.0),
    ]


def test_what_is_left_out_is_named_with_its_quantity() -> None:
    """An asset without a price that appears later; with a price it counts."""
    world = World()
    world.step(balances(USDT=1_000.0))
    world.wait(40.0)
    world.step(balance("XYZ", 250.0))
    world.wait(40.0)
    assert shown(world).equity == 1_000.0
    assert shown(world).left_out == [LeftOutView(asset="XYZ", quantity=250.0)]
    world.step(price("XYZ/USDT", 2.0))
    world.wait(10.0)
    assert (shown(world).equity, shown(world).left_out) == (1_500.0, [])
