"""Volatility: one-minute returns, evaluated at the end of each minute."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log, sqrt
from statistics import stdev
from typing import Any

import pytest

from riskmon.core.config import LimitConfig
from riskmon.core.engine import Engine
from riskmon.core.limits.volatility import VolatilityParams
from tests.core import World, exact, faults, fill, latency, limit, plain, price, run

SYMBOL = "BTC/USDT"
SCOPE = "symbol:" + SYMBOL
CALM = (100.0, 100.1, 100.0, 100.1, 100.0)
WILD = (100.0, 103.0, 99.0, 104.0, 98.0)


def volatility(**params: Any) -> LimitConfig:
    """A limit of 1 % over ten minutes that needs three returns."""
    few: dict[str, Any] = {
        "max": 0.01,
        "window": 10,
        "min_samples": 3,
        "recover": exact(120.0, probes=2),
    }
    return limit("volatility", **{**few, **params})


def tell(world: World, *closes: float, venue: str | None = None, symbol: str = SYMBOL) -> None:
    """A price a minute."""
    for close in closes:
        world.step(price(symbol, close, venue))
        world.wait(60)


def value(world: World) -> float | None:
    """What is measured now."""
    return world.breaker("volatility", SCOPE).value


def test_it_is_the_deviation_of_one_minute_returns() -> None:
    """The value is the sample standard deviation of the log returns of consecutive closes."""
    world = World(volatility())
    tell(world, *CALM)
    returns = [log(after / before) for before, after in pairwise(CALM)]
    assert value(world) == pytest.approx(stdev(returns))


def test_a_steady_rise_is_no_volatility() -> None:
    """The deviation is from the mean, of logarithms: 1 % a minute for ever deviates by nothing."""
    world = World(volatility())
    tell(world, *(100 * 1.01**minute for minute in range(6)))
    assert value(world) == pytest.approx(0.0, abs=1e-12)
    tell(world, 150.0)
    returns = [log(1.01)] * 5 + [log(150.0 / (100 * 1.01**5))]
    assert value(world) == pytest.approx(stdev(returns), rel=1e-9)


def test_a_deviation_at_the_bound_is_within() -> None:
    """It is past when it is above."""
    closes = (100.0, 101.0, 100.0, 101.0)
    measured = World(volatility(max=1.0))
    tell(measured, *closes)
    at = value(measured)
    assert at is not None
    for bound, state in ((at, "closed"), (at * 0.999999, "open")):
        world = World(volatility(max=bound))
        tell(world, *closes, 100.5)
        assert world.state("volatility", SCOPE) == state


def test_only_the_last_price_of_a_minute_counts() -> None:
    """A spike within a minute leaves no trace."""
    world = World(volatility())
    for close in CALM:
        world.step(price(SYMBOL, 5 * close))
        world.wait(30)
        world.step(price(SYMBOL, close))
        world.wait(30)
    world.step(price(SYMBOL, 100.0))
    assert value(world) == pytest.approx(0.001, rel=0.2)
    assert world.state("volatility", SCOPE) == "closed"


def test_it_trips_when_a_minute_is_over() -> None:
    """Not while the wild minute runs, but with the first price of the next."""
    world = World(volatility())
    tell(world, *WILD[:-1])
    assert world.state("volatility", SCOPE) == "closed"
    world.step(price(SYMBOL, WILD[-1]))
    assert world.state("volatility", SCOPE) == "open"
    assert world.level(SCOPE) == "halt"
    assert world.level() == "allow"
    assert "one-minute returns" in world.breaker("volatility", SCOPE).reason


def test_too_few_returns_are_not_evaluated() -> None:
    """Below `min_samples` returns there is no value, however wild they are."""
    world = World(volatility(min_samples=4))
    tell(world, *WILD[:4])
    assert value(world) is None
    world.step(price(SYMBOL, 1.0))
    assert world.state("volatility", SCOPE) == "closed"


def test_a_gap_is_spread_over_its_minutes() -> None:
    """A move over four minutes without a price counts as a half of it, as in a random walk."""
    world = World(volatility(min_samples=2))
    tell(world, 100.0, 100.0)
    world.wait(3 * 60)
    tell(world, 100.0 * exp(0.01))
    assert value(world) == pytest.approx(stdev([0.0, 0.01 / sqrt(4)]))


def test_a_gap_longer_than_the_window_is_a_new_beginning() -> None:
    """After a weekend nothing is known, and the jump over it trips nothing."""
    world = World(volatility(min_samples=2))
    tell(world, *CALM)
    world.wait(2 * 86_400)
    assert value(world) is None
    tell(world, 250.0, 250.0)
    assert world.state("volatility", SCOPE) == "closed"


def test_the_window_forgets() -> None:
    """What is older than `window` minutes no longer counts."""
    world = World(volatility(max=0.5))
    tell(world, *WILD, *[98.0] * 11)
    assert value(world) == 0.0


def test_each_source_is_a_series_of_its_own() -> None:
    """Two venues 3 % apart do not move; fills count with their venue's prices."""
    world = World(volatility())
    for minute in range(6):
        world.step(price(SYMBOL, 100.0, "kraken"), price(SYMBOL, 103.0, "mexc"))
        world.step(fill("buy", 1.0, 100.1, SYMBOL, id=str(minute)))
        world.wait(60)
    world.step(price(SYMBOL, 100.0, "kraken"))
    assert world.state("volatility", SCOPE) == "closed"
    assert value(world) == pytest.approx(0.0, abs=1e-12)
    for minute, close in enumerate(WILD, 10):
        world.step(fill("buy", 1.0, close, SYMBOL, id=str(minute)))
        world.wait(60)
    world.step(price(SYMBOL, 100.0, "kraken"))
    assert world.state("volatility", SCOPE) == "open"


def half_open() -> World:
    """A world whose breaker tripped, and probes now."""
    world = World(volatility())
    tell(world, *WILD)
    world.wait(120)
    assert world.state("volatility", SCOPE) == "half_open"
    return world


def test_good_minutes_close_it() -> None:
    """Each finished minute whose return is within the bound is a good probe."""
    world = half_open()
    tell(world, 98.0, 98.0)
    assert world.state("volatility", SCOPE) == "half_open"
    world.step(price(SYMBOL, 98.0))
    assert world.state("volatility", SCOPE) == "closed"


def test_prices_within_a_minute_are_no_probes() -> None:
    """A hundred quotes in one minute prove nothing."""
    world = half_open()
    world.each([price(SYMBOL, 98.0)] * 100)
    assert world.state("volatility", SCOPE) == "half_open"


def test_a_wild_minute_opens_it_again() -> None:
    """A finished minute whose return is past the bound is a bad probe."""
    world = half_open()
    tell(world, 98.0, 101.0)
    world.step(price(SYMBOL, 101.0))
    assert world.state("volatility", SCOPE) == "open"


def test_it_clears_as_soon_as_it_is_calm() -> None:
    """With `recover = "clear"` calm minutes close it."""
    world = World(volatility(recover="clear"))
    tell(world, *WILD)
    assert world.state("volatility", SCOPE) == "open"
    tell(world, *[98.0] * 12)
    assert world.state("volatility", SCOPE) == "closed"


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_restored_engine_goes_on(cut: int) -> None:
    """A snapshot anywhere and the rest of the story equal the whole story, bit for bit."""
    world = World(volatility(), limit("latency_p99"))
    tell(world, *WILD[:4], venue="kraken")
    tell(world, *WILD)
    world.step(latency(0.1))
    tell(world, 98.0, 98.0)
    log_before = world.log[: len(world.log) * cut // 12]
    engine = Engine(world.config)
    for events, now_ns in log_before:
        run(engine, events, now_ns)
    engine = Engine.restore(engine.snapshot())
    for events, now_ns in world.log[len(log_before) :]:
        run(engine, events, now_ns)
    assert plain(engine) == plain(world.engine)


@pytest.mark.parametrize(
    ("params", "key"),
    [({"window": 1}, "window"), ({"min_samples": 1}, "min_samples"), ({"max": 0.0}, "max")],
)
def test_nonsense_is_refused(params: dict[str, float], key: str) -> None:
    """A window without a deviation and a bound of 0 are faults of their keys."""
    few = {"max": 0.01, "window": 10, "min_samples": 3}
    assert faults(VolatilityParams, **few) == []
    found = faults(VolatilityParams, **{**few, **params})
    assert key in [fault.partition(":")[0] for fault in found]
