"""What the engine shows of the portfolio, by hand-computed figures."""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.decisions import Notice
from riskmon.core.engine import Engine
from riskmon.core.portfolio_view import (
    AssetView,
    DifferenceView,
    LeftOutView,
    PortfolioView,
    StrategyView,
)
from tests.core import World, balance, balances, fill, flow, limit, price

PERP = "BTC/USDT:USDT"


def shown(world: World) -> PortfolioView:
    """The portfolio as it is shown."""
    return world.engine.view().portfolio


def long_fifty() -> World:
    """10,000 USDT, and 50 contracts that a strategy bought at 100."""
    world = World()
    world.step(balances(USDT=10_000.0), price(PERP, 100.0))
    world.wait(40.0)  # the first equity is known
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
    assert notices(world) == ["250 XYZ are left out of equity"]


def notices(world: World) -> list[str]:
    """The beginnings of the notices that are shown, and were decisions."""
    shown = world.engine.view().notices
    assert shown == [one for one in world.decisions if isinstance(one, Notice)]
    return [one.text.split(":")[0] for one in shown]


def test_each_venue_has_its_equity_pnl_and_exposure() -> None:
    """A long of 50 at kraken and a short of 20 at mexc, both at 100; then the price is 110."""
    world = World()
    world.step(balances(USDT=10_000.0), balances("mexc", USDT=5_000.0), price(PERP, 100.0))
    world.wait(40.0)  # the first equity is known
    world.step(fill("buy", 50.0, 100.0), fill("sell", 20.0, 100.0, venue="mexc"))
    world.step(price(PERP, 110.0))
    kraken, mexc = shown(world).venues
    assert (kraken.venue, kraken.equity, kraken.pnl) == ("kraken", 10_500.0, 500.0)
    assert (mexc.venue, mexc.equity, mexc.pnl) == ("mexc", 4_800.0, -200.0)
    assert (kraken.exposure, mexc.exposure) == (5_500.0, 2_200.0)
    assert (kraken.leverage, mexc.leverage) == (5_500 / 10_500, 2_200 / 4_800)
    # The account's exposure is net: 30 x 110 over 15,300.
    assert (shown(world).exposure, shown(world).leverage) == (3_300.0, 3_300 / 15_300)


def test_the_orders_that_rest_at_a_venue_count_there() -> None:
    """A resting buy of 20 at mexc enlarges the exposure of mexc alone."""
    world = World()
    world.step(balances(USDT=10_000.0), balances("mexc", USDT=5_000.0), price(PERP, 100.0))
    world.wait(40.0)
    world.step(fill("buy", 50.0, 100.0))
    assert world.check(venue="mexc", symbol=PERP, quantity=20.0, price=100.0, id="o1").allowed
    kraken, mexc = shown(world).venues
    assert (kraken.exposure_worst, mexc.exposure_worst) == (5_000.0, 2_000.0)
    assert (kraken.leverage, mexc.leverage) == (0.5, 0.4)


def test_the_delta_of_an_asset_adds_spot_and_contracts() -> None:
    """2 BTC held and a short of 0.5 contracts of 1 BTC: 1.5 BTC at 60,000; USDT is no exposure."""
    world = World()
    world.step(balances(USDT=10_000.0, BTC=2.0), price("BTC/USDT", 60_000.0), price(PERP, 60_000.0))
    world.step(fill("sell", 0.5, 60_000.0))
    assert shown(world).assets == [AssetView(asset="BTC", quantity=1.5, notional=90_000.0)]


def test_a_pending_flow_is_shown_until_a_balance_contains_it() -> None:
    """A deposit of 500 that was told before the balance; with the balance it is gone."""
    world = World()
    world.step(balances(USDT=1_000.0))
    world.wait(40.0)
    world.step(flow(500.0, id="d1"))
    (pending,) = shown(world).flows
    assert (pending.id, pending.venue, pending.asset, pending.amount) == (
        *("d1", "kraken", "USDT"),
        500.0,
    )
    assert pending.since_ns == world.engine.state.wall_ns
    world.wait(10.0)
    world.step(balances(USDT=1_500.0))
    assert (shown(world).flows, shown(world).equity) == ([], 1_500.0)


def test_a_lapsed_flow_is_a_difference_and_a_notice() -> None:
    """After `flow_wait` a flow that no balance contained is counted and made known."""
    world = World()
    world.step(balances(USDT=1_000.0))
    world.wait(40.0)
    world.step(flow(500.0, id="d1"))
    for _ in range(8):
        world.wait(500.0)
        world.step(balances(USDT=1_000.0))
    assert shown(world).flows == []
    assert shown(world).differences == [DifferenceView(venue="kraken", kind="flow", count=1)]
    assert notices(world) == ["the flow d1 of 500 USDT at kraken lapsed"]


def test_a_transfer_is_shown_while_it_is_under_way() -> None:
    """400 leave kraken and arrive at mexc: equity is the same throughout."""
    world = World()
    world.step(balances(USDT=1_000.0), balances("mexc", USDT=1_000.0))
    world.wait(40.0)
    moved = ev.Transfer(id="t1", asset="USDT", amount=400.0, from_venue="kraken", to_venue="mexc")
    world.step(moved)
    world.wait(10.0)
    world.step(balances(USDT=600.0))
    (under_way,) = shown(world).transfers
    assert (under_way.id, under_way.left, under_way.arrived) == ("t1", True, False)
    assert (under_way.source, under_way.destination) == ("kraken", "mexc")
    assert shown(world).equity == 2_000.0
    world.wait(10.0)
    world.step(balances("mexc", USDT=1_400.0))
    assert (shown(world).transfers, shown(world).equity) == ([], 2_000.0)


def test_a_position_that_fills_do_not_explain_is_a_difference() -> None:
    """The venue reports 40 where fills made 50."""
    world = long_fifty()
    world.wait(20.0)
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=40.0, entry_price=100.0))
    world.wait(10.0)
    assert shown(world).differences == [DifferenceView(venue="kraken", kind="position", count=1)]


def test_notices_survive_a_restart() -> None:
    """The latest notices are in the snapshot."""
    world = World()
    world.step(balances(USDT=1_000.0))
    world.wait(40.0)
    world.step(balance("XYZ", 250.0))
    world.wait(40.0)
    assert notices(world)
    restored = Engine.restore(world.engine.snapshot())
    assert restored.view().notices == world.engine.view().notices


def test_an_old_price_and_no_price_are_two_sentences() -> None:
    """Why a limit is unknown; the age of the price is that at which the state is read."""
    world = World(limit("total_notional", max=1e6), portfolio=PortfolioConfig(venues=("kraken",)))
    world.step(balances(USDT=10_000.0))
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=1.0, entry_price=100.0))
    assert why(world) == f"{PERP} has no mark: report its price"
    world.step(price(PERP, 100.0))
    assert why(world) is None
    world.wait(312.0)
    assert why(world) == (
        f"{PERP}'s last price is 312 s old; max_age.price is 300: report its price"
    )


def why(world: World) -> str | None:
    """Why the total notional is unknown."""
    shown = world.breaker("total_notional", "account").unknown
    assert [one.reason for one in world.engine.view().unknown] == ([] if shown is None else [shown])
    return shown
