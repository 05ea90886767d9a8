"""The level of an asset is part of the level of each symbol of that base."""

from __future__ import annotations

from typing import Any

from riskmon.core import events as ev
from riskmon.core.engine import Engine
from tests.core import OMS, World, exact, fill, latency, limit, plain, price

SYMBOLS = ("BTC/USDT", "BTC/EUR", "BTC/USDT:USDT", "BTC/USD:BTC")


def markets() -> World:
    """Symbols of two bases, and no limit."""
    world = World(targets=OMS)
    world.step(latency(0.1), *(price(name, 1.0) for name in (*SYMBOLS, "ETH/BTC", "ETH/USDT")))
    return world


def levels(world: World) -> dict[str, str]:
    """The levels that are not allow."""
    return {scope: level for scope, level in world.view.levels.items() if level != "allow"}


def test_a_frozen_asset_halts_its_symbols() -> None:
    """Spot and contracts of that base in every quote, and no symbol that is quoted in it."""
    world = markets()
    world.operate("freeze", "asset:BTC")
    expected = dict.fromkeys(("asset:BTC", *(f"symbol:{name}" for name in SYMBOLS)), "halt")
    assert levels(world) == expected
    assert plain(Engine.restore(world.engine.snapshot())) == plain(world.engine)
    assert Engine.restore(world.engine.snapshot()).levels == world.engine.levels
    world.confirm()
    world.operate("unfreeze", "asset:BTC")
    assert levels(world) == {}


def test_a_symbol_that_comes_later_is_halted_too() -> None:
    """Its first level is that of its base."""
    world = World()
    world.operate("freeze", "asset:SOL")
    world.step(price("SOL/USDT", 1.0))
    assert world.level("symbol:SOL/USDT") == "halt"


def test_a_check_of_the_symbol_names_the_asset() -> None:
    """The order is refused by the breaker over the asset; orders in other bases are not."""
    world = markets()
    world.operate("freeze", "asset:BTC")
    for simulate in (True, False):
        answer = world.check(symbol="BTC/EUR", simulate=simulate)
        assert (answer.allowed, answer.level) == (False, "halt")
        assert [(one.limit, one.scope) for one in answer.reasons] == [("manual", "asset:BTC")]
        assert world.check(symbol="ETH/USDT", simulate=simulate).allowed is True


def test_the_lowest_of_the_levels_counts() -> None:
    """The symbol's own level, the asset's and the account's."""
    world = markets()
    world.operate("freeze", "symbol:BTC/USDT")
    world.operate("freeze", "asset:BTC")
    world.confirm()
    world.operate("unfreeze", "asset:BTC")
    assert levels(world) == {"symbol:BTC/USDT": "halt"}
    world.operate("freeze", "account")
    assert set(levels(world)) == set(world.view.levels)


def test_the_cancel_is_of_the_asset_and_needs_the_targets_answer() -> None:
    """No venue's report confirms it: the venue may have other orders, or none of that base."""
    world = markets()
    world.operate("freeze", "asset:BTC")
    assert world.sweeps[-1].scope == "asset:BTC"
    world.wait(world.config.lease)
    world.answered(2, done=False)
    world.step(latency(0.1), ev.OpenOrders(venue="kraken", count=0))
    (cancel,) = world.view.cancel
    assert cancel.confirmed is False
    world.answered(2, done=True)
    assert world.view.cancel[0].confirmed is True


def delta(**params: Any) -> World:
    """A limit of 1 on the delta of each asset, and contracts of two quotes."""
    world = World(limit("position", max=1.0, per="asset", **params), targets=OMS)
    world.step(latency(0.1), price("BTC/USDT:USDT", 100.0), price("BTC/EUR:EUR", 100.0))
    return world


def trade(world: World, side: str, quantity: float, symbol: str) -> None:
    """A fill at 100."""
    world.step(fill(side, quantity, 100.0, symbol, id=f"{side}{quantity}{symbol}{world.now_ns}"))


def test_the_delta_of_an_asset_trips_its_symbols() -> None:
    """0.7 of each of two contracts is 1.4: each symbol is halted, and the asset's orders go."""
    world = delta(on_breach="trip")
    trade(world, "buy", 0.7, "BTC/USDT:USDT")
    assert levels(world) == {}
    trade(world, "buy", 0.7, "BTC/EUR:EUR")
    symbols = ("asset:BTC", "symbol:BTC/USDT:USDT", "symbol:BTC/EUR:EUR")
    assert levels(world) == dict.fromkeys(symbols, "halt")
    assert (world.sweeps[-1].scope, world.sweeps[-1].limit) == ("asset:BTC", "position")
    world.confirm()
    trade(world, "sell", 0.7, "BTC/EUR:EUR")
    assert levels(world) == {}


def test_a_delta_that_blocks_reduces_its_symbols() -> None:
    """Past its bound the symbols are at reduce_only, and an order that adds is refused."""
    world = delta(for_=5.0)
    trade(world, "buy", 2.0, "BTC/USDT:USDT")
    assert levels(world) == {}
    refused = world.check(symbol="BTC/EUR:EUR", quantity=0.1, price=100.0)
    assert [(one.limit, one.scope) for one in refused.reasons] == [("position", "asset:BTC")]
    world.wait(5)
    assert world.level("symbol:BTC/USDT:USDT") == "reduce_only"
    order = {"symbol": "BTC/USDT:USDT", "quantity": 0.5, "price": 100.0}
    assert world.check(**order, side="sell").allowed is True


def test_a_half_open_asset_grants_probes_to_its_symbols() -> None:
    """Its permits are for orders in any of them."""
    world = delta(on_breach="trip", recover=exact(5.0, probes=2), hold=60.0)
    trade(world, "buy", 2.0, "BTC/USDT:USDT")
    world.confirm()
    trade(world, "sell", 1.9, "BTC/USDT:USDT")
    world.wait(61)
    assert world.state("position", "asset:BTC") == "half_open"
    assert world.level("symbol:BTC/EUR:EUR") == "probe"
    symbols = ("BTC/EUR:EUR", "BTC/USDT:USDT", "BTC/EUR:EUR")
    orders = [world.check(symbol=one, quantity=0.01, price=100.0) for one in symbols]
    assert [one.allowed for one in orders] == [True, True, False]
    assert [one.scope for one in orders[2].reasons] == ["asset:BTC"]
