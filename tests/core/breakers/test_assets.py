"""The level of an asset is part of the level of each symbol of that base."""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.engine import Engine
from tests.core import OMS, World, latency, plain, price

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
