"""Limits on the delta of an asset, on leverage, and on the number of orders that rest."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import CheckAnswer
from riskmon.core.engine import Engine
from riskmon.core.limits.exposure import OpenOrdersLimit
from riskmon.core.limits.facts import Facts
from tests.core import World, balances, fill, limit, price

SPOT = "BTC/USDT"
PERP = "BTC/USDT:USDT"
INVERSE = "BTC/USD:BTC"
CROSS = "ETH/BTC"
ASSET = "asset:BTC"
MONEY = PortfolioConfig(initial_capital=10_000.0, pegs={"USD": 1.0})


def market(*limits: LimitConfig, **config: Any) -> World:
    """A world in which BTC costs 100 in each symbol, and ETH a tenth of it."""
    world = World(*limits, **{"portfolio": MONEY, "check_ttl": 600.0, **config})
    world.step(ev.Heartbeat(venue="kraken"))
    prices = {SPOT: 100.0, PERP: 100.0, INVERSE: 100.0, "ETH/USDT": 10.0, CROSS: 0.1}
    world.each([price(symbol, each) for symbol, each in prices.items()])
    return world


def ask(world: World, quantity: float, symbol: str = SPOT, **more: Any) -> CheckAnswer:
    """Check an order of a quantity, a sale if below 0, at the mark of its symbol."""
    each = {"ETH/USDT": 10.0, CROSS: 0.1}.get(symbol, 100.0)
    side = "buy" if quantity > 0 else "sell"
    order = {"symbol": symbol, "price": each, "side": side, "quantity": abs(quantity)}
    return world.check(**{**order, **more})


def edge(world: World, quantity: float, symbol: str = SPOT, **more: Any) -> bool:
    """Whether an order of this quantity is the largest that is allowed, by dry runs."""
    fits = ask(world, quantity, symbol, simulate=True, **more).allowed
    return fits and not ask(world, quantity * 1.01, symbol, simulate=True, **more).allowed


def contract(quantity: float, symbol: str = PERP, **more: Any) -> ev.Position:
    """A contract position that the venue reports."""
    values = {"venue": "kraken", "entry_price": 100.0, **more}
    return ev.Position(symbol=symbol, quantity=quantity, **values)


# -- the delta of an asset


def test_the_delta_is_net_over_spot_and_contracts() -> None:
    """3 spot, 2 short in a linear contract, 1 long in an inverse one (100 USD each): 2."""
    world = market(
        limit("position", max=5.0, per="asset"), limit("inventory", max=400.0, per="asset")
    )
    world.step(fill("buy", 3.0, 100.0, SPOT))
    world.step(contract(-2.0), contract(1.0, INVERSE, contract_size=100.0))
    assert world.breaker("position", ASSET).value == pytest.approx(2.0)
    assert world.breaker("inventory", ASSET).value == pytest.approx(200.0)


@pytest.mark.parametrize("symbol", [SPOT, PERP, INVERSE])
def test_an_order_in_any_symbol_moves_the_delta(symbol: str) -> None:
    """Of 2 held, 3 more fit, and 7 may be sold."""
    world = market(limit("position", max=5.0, per="asset"))
    world.step(fill("buy", 2.0, 100.0, SPOT))
    world.step(contract(0.0, INVERSE, contract_size=100.0))
    assert edge(world, 3.0, symbol)
    assert edge(world, -7.0, symbol)
    (reason,) = ask(world, 3.5, symbol, simulate=True).reasons
    assert (reason.limit, reason.scope) == ("position", ASSET)
    assert reason.value == pytest.approx(5.5)


def test_a_spot_order_moves_its_quote_asset_the_other_way() -> None:
    """A buy of 10 ETH for BTC at 0.1 sells 1 BTC."""
    world = market(
        limit("position", max=5.0, per="asset", overrides={"asset:ETH": 1e6, "asset:USDT": 1e6})
    )
    world.step(contract(-4.0))
    assert edge(world, 10.0, CROSS)
    assert edge(world, -90.0, CROSS)


def test_orders_that_rest_count_in_the_delta() -> None:
    """In all symbols of the asset, as base or as quote; on the order's own side."""
    world = market(
        limit("position", max=5.0, per="asset", overrides={"asset:ETH": 1e6, "asset:USDT": 1e6})
    )
    assert ask(world, 2.0, PERP, id="a").allowed
    assert ask(world, -10.0, CROSS, id="b").allowed  # for 1 BTC
    assert ask(world, -3.0, SPOT, id="c").allowed
    assert edge(world, 2.0)
    assert edge(world, -2.0)
    assert edge(world, 4.0, PERP, id="a")  # in place of the 2
    assert edge(world, 3.0, SPOT, id="b")  # in place of the 1


def test_an_order_that_lowers_the_delta_is_never_refused_for_it() -> None:
    """6 are held under a bound of 5: less is allowed, more is not, whatever the symbol."""
    world = market(limit("position", max=5.0, per="asset"))
    world.step(contract(6.0))
    assert world.level("symbol:" + SPOT) == "reduce_only"
    assert edge(world, -12.0 * 0.999, SPOT)
    assert not ask(world, 0.1, SPOT, simulate=True).allowed
    world.configure(limit("position", max=5.0, per="asset"), limit("position", "symbols", max=5.0))
    assert not ask(world, 0.1, PERP, simulate=True).allowed
    assert not ask(world, -1.0, PERP, venue="mexc", simulate=True).allowed  # it closes nothing


def test_an_inventory_of_unknown_worth_refuses_what_does_not_close() -> None:
    """Without a price of the asset only an order that closes is allowed."""
    world = World(limit("inventory", max=1_000.0, per="asset"), portfolio=MONEY)
    world.step(ev.Heartbeat(venue="kraken"), contract(2.0))
    assert not ask(world, 1.0, PERP, simulate=True).allowed
    assert ask(world, -2.0, PERP, simulate=True).allowed


# -- leverage


def test_leverage_is_gross_notional_over_equity() -> None:
    """Of all symbols, with what orders may add; closing and opposite orders add nothing."""
    world = market(limit("leverage", max=0.1))
    world.step(contract(4.0), contract(1.0, INVERSE, contract_size=100.0))
    assert world.breaker("leverage", "account").value == pytest.approx(0.05)
    assert edge(world, 5.0)
    assert ask(world, 3.0, id="a").allowed
    assert world.breaker("leverage", "account").value == pytest.approx(0.08)
    assert ask(world, -4.0, PERP, id="b").allowed
    assert world.breaker("leverage", "account").value == pytest.approx(0.08)
    assert edge(world, 2.0)
    assert edge(world, 5.0, id="a")


def test_leverage_of_a_venue_is_over_its_own_equity() -> None:
    """1,000 at each venue: what is held and ordered at one counts there alone."""
    world = market(limit("leverage", max=2.0, per="venue"), portfolio=PortfolioConfig())
    world.step(balances("kraken", USDT=1_000.0), balances("mexc", USDT=1_000.0))
    world.step(contract(5.0), contract(9.0, venue="mexc"))
    world.wait(60)
    world.step(price(PERP, 100.0))
    assert world.breaker("leverage", "venue:kraken").value == pytest.approx(0.5)
    assert world.breaker("leverage", "venue:mexc").value == pytest.approx(0.9)
    assert ask(world, 4.0, PERP, id="a").allowed
    assert world.breaker("leverage", "venue:kraken").value == pytest.approx(0.9)
    assert edge(world, 11.0, PERP)
    assert edge(world, 11.0, PERP, venue="mexc")
    assert edge(world, -29.0, PERP, venue="mexc")
    (reason,) = ask(world, 12.0, PERP, simulate=True).reasons
    assert reason.scope == "venue:kraken"
    assert reason.value == pytest.approx(2.1)


def test_leverage_of_a_venue_follows_what_is_held_there() -> None:
    """What an order was to sell has left the venue: it would open a position there, also in cash.

    The account holds as much as before.
    """
    world = market(
        limit("leverage", max=9.0, per="venue"), portfolio=PortfolioConfig(pegs={"USD": 1.0})
    )
    held = {"USDT": 1_000.0, "BTC": 1.0, "USD": 100.0}
    world.step(balances("kraken", **held), balances("mexc", USDT=1_000.0))
    world.wait(60)
    world.step(price(SPOT, 100.0), price("USD/USDT", 1.0))
    assert ask(world, -1.0, id="a").allowed
    assert ask(world, -100.0, "USD/USDT", price=1.0, id="b").allowed
    assert world.breaker("leverage", "venue:kraken").value == pytest.approx(100.0 / 1_200.0)
    world.step(balances("kraken", USDT=1_000.0), balances("mexc", **held))
    world.wait(60)
    world.step(price(SPOT, 100.0))
    assert world.breaker("leverage", "venue:kraken").value == pytest.approx(200.0 / 1_000.0)
    assert world.breaker("leverage", "venue:mexc").value == pytest.approx(100.0 / 1_200.0)


def test_past_its_bound_only_what_reduces_is_allowed() -> None:
    """The gate is at reduce_only; an order that rests takes it there as well."""
    world = market(limit("leverage", max=0.1))
    world.step(contract(9.0))
    world.step(
        ev.Order(
            id="a",
            venue="kraken",
            symbol=PERP,
            status="open",
            side="buy",
            quantity=2.0,
            price=100.0,
        )
    )
    assert world.level() == "reduce_only"
    assert ask(world, -9.0, PERP, simulate=True).allowed
    assert not ask(world, -9.1, PERP, simulate=True).allowed
    world.step(ev.Order(id="a", venue="kraken", symbol=PERP, status="canceled", remaining=2.0))
    assert world.level() == "allow"


# -- open orders


def order(status: Any, name: str, **more: Any) -> ev.Order:
    """A venue's report of an order."""
    values = {"venue": "kraken", "symbol": SPOT, "side": "buy", "quantity": 1.0, **more}
    return ev.Order(id=name, status=status, **values)


@pytest.mark.parametrize(
    ("per", "scope", "count"),
    [
        ("account", "account", 4.0),
        ("venue", "venue:kraken", 3.0),
        ("symbol", "symbol:" + SPOT, 3.0),
    ],
)
def test_the_orders_that_rest(per: Any, scope: str, count: float) -> None:
    """Those that are permitted and those that are reported, until they are closed."""
    world = market(limit("open_orders", max=9, per=per))
    world.step(order("open", "1"), order("open", "2", venue="mexc"))
    assert ask(world, 1.0, id="3").allowed
    assert ask(world, 1.0, PERP).allowed
    assert world.breaker("open_orders", scope).value == count
    world.step(order("closed", "1", quantity=None))
    assert world.breaker("open_orders", scope).value == count - 1


def test_an_order_evaluates_the_number_in_its_own_symbol_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a bound for each symbol, an order does not cost more the more symbols there are."""
    world = market(limit("open_orders", max=9, per="symbol"))
    evaluated: list[str] = []
    value = OpenOrdersLimit.value

    def counted(one: OpenOrdersLimit, facts: Facts) -> float:
        evaluated.append(one.name)
        return value(one, facts)

    monkeypatch.setattr(OpenOrdersLimit, "value", counted)
    world.step(order("open", "1"))
    assert evaluated == [SPOT]
    assert ask(world, 1.0, PERP).allowed
    assert {*evaluated[1:]} == {PERP}


def test_an_order_more_than_the_bound_is_refused() -> None:
    """A changed order is no more; after an end there is room again."""
    world = market(limit("open_orders", max=2, per="venue"))
    assert [ask(world, 1.0, id=name).allowed for name in "abc"] == [True, True, False]
    assert ask(world, 2.0, id="b").allowed
    assert ask(world, 1.0, id="d", venue="mexc").allowed
    world.step(order("canceled", "a", remaining=1.0))
    assert ask(world, 1.0, id="e").allowed


def test_a_venue_may_report_more_orders_than_are_known() -> None:
    """The larger number counts, with the orders since and without those that ended since."""
    world = market(limit("open_orders", max=9, per="venue"))
    assert ask(world, 1.0, id="a").allowed
    world.wait(1)
    world.step(ev.OpenOrders(venue="kraken", count=5))

    def value() -> float | None:
        return world.breaker("open_orders").value

    assert value() == 5.0
    world.wait(1)
    ask(world, 1.0, id="b")
    assert value() == 6.0
    world.step(order("canceled", "a", remaining=1.0), order("closed", "unknown"))
    assert value() == 4.0
    world.step(ev.Orders(venue="kraken", orders=[]))
    assert value() == 1.0  # b, of which there is no report
    world.step(ev.OpenOrders(venue="kraken", count=0))
    assert value() == 1.0


def test_the_numbers_are_those_of_before_after_a_restart() -> None:
    """Sums are derived anew: the same values and the same answers."""
    world = market(
        limit("open_orders", max=9),
        limit("leverage", max=0.1),
        limit("position", max=5.0, per="asset"),
        limit("total_notional", max=900.0),
    )
    for number, quantity in enumerate((0.1, 0.2, -0.3, 0.7)):
        ask(world, quantity, (SPOT, PERP)[number % 2], id=str(number))
    world.step(fill("buy", 0.1, 100.0, SPOT, order_id="0"), contract(0.3))
    before = [(b.limit, b.scope, b.value) for b in world.view.breakers]
    answers = [ask(world, quantity, simulate=True) for quantity in (1.0, 4.0, -5.0, 9.0)]
    world.engine = Engine.restore(world.engine.snapshot())
    world.step(ev.Tick())
    assert [(b.limit, b.scope, b.value) for b in world.view.breakers] == before
    assert [ask(world, q, simulate=True) for q in (1.0, 4.0, -5.0, 9.0)] == answers


# -- spot holdings


def holding(*limits: LimitConfig) -> World:
    """A world whose venue holds 2 BTC and no position by fills; orders named two spot symbols."""
    world = World(*limits, portfolio=PortfolioConfig(venues=("kraken",)), check_ttl=600.0)
    world.each([price(SPOT, 100.0), price("BTC/EUR", 100.0), price("EUR/USDT", 1.0)])
    world.step(balances("kraken", USDT=10_000.0, BTC=2.0))
    for symbol in (SPOT, "BTC/EUR"):
        world.step(ev.Order(id="named", venue="kraken", symbol=symbol, status="canceled"))
    world.wait(10)
    return world


def test_a_spot_order_closes_a_holding_whatever_its_quote() -> None:
    """2 BTC are held: they may be sold for EUR; orders for USDT and EUR together close no more."""
    world = holding(limit("position", max=1.0))
    assert world.level("symbol:" + SPOT) == "reduce_only"
    assert edge(world, -2.0, "BTC/EUR", reduce_only=True)
    assert ask(world, -1.5, SPOT, id="a").allowed
    assert edge(world, -0.5, "BTC/EUR", reduce_only=True)
    assert edge(world, -2.0, "BTC/EUR", reduce_only=True, id="a")


def test_a_spot_order_enlarges_the_position_of_its_holding() -> None:
    """A buy for EUR adds to the 2 BTC, which are a position in BTC/USDT; a sale takes from them."""
    world = holding(limit("position", max=3.0), limit("total_notional", max=300.0))
    assert edge(world, 1.0, "BTC/EUR")
    (_, reason) = ask(world, 1.5, "BTC/EUR", simulate=True).reasons
    assert (reason.limit, reason.scope, reason.value) == ("position", "symbol:" + SPOT, 3.5)
    assert ask(world, 0.5, "BTC/EUR").allowed
    assert edge(world, 0.5, SPOT)
    assert ask(world, -2.0, "BTC/EUR", simulate=True).allowed
