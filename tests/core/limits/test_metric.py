"""`metric`: a limit on any number that clients report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.engine import Engine
from riskmon.core.limits.metric import MetricParams
from riskmon.core.limits.schedule import EitherSlot
from tests.core import BEGIN_WALL_NS, World, faults, latency, limit, plain
from tests.core.breakers.test_bounds import hours

VENUE = "venue:kraken"
PEGS = {"USD": 1.0}


def metric(value: float, **more: Any) -> ev.Metric:
    """A margin ratio at kraken, unless something else is named."""
    return ev.Metric(**{"name": "margin", "value": value, "venue": "kraken", **more})


def margin(**params: Any) -> World:
    """A limit of 0.8 on the margin ratio of each venue, unless a bound is given."""
    bound = {} if "min" in params else {"max": 0.8}
    policy: dict[str, Any] = {"name": "margin", "per": "venue", **bound, **params}
    one = LimitConfig(name="margin", kind="metric", params=MetricParams(**policy), written=True)
    return World(one, portfolio=PortfolioConfig(unknown_grace=5.0))


def value(world: World, scope: str = VENUE) -> float | None:
    """The value of the limit over a scope."""
    return world.breaker("margin", scope).value


def test_a_number_past_its_maximum_trips_and_clears() -> None:
    """At the bound it does not; its reason names the number; it recovers when it is clear."""
    world = margin()
    world.step(metric(0.8))
    assert world.state("margin") == "closed"
    world.step(metric(0.81))
    assert world.breaker("margin").reason == "margin of venue:kraken is 0.81, over 0.8"
    assert (world.level(VENUE), world.level()) == ("halt", "allow")
    world.step(metric(0.5))
    assert world.level(VENUE) == "allow"


@pytest.mark.parametrize("collapsed", [0.04, 0.0, -0.04, -0.06, -100.0])
def test_a_number_that_collapses_under_its_minimum_trips(collapsed: float) -> None:
    """From far above to any value under it, however far below 0."""
    world = margin(min=0.05)
    world.step(metric(3.0))
    world.step(metric(collapsed))
    assert world.state("margin") == "open"


def test_a_number_under_its_minimum_trips() -> None:
    """`min` in place of `max`: a liquidation distance below 5 %; a negative value too."""
    world = margin(min=0.05)
    world.step(metric(0.05))
    assert (world.state("margin"), world.breaker("margin").utilization) == ("closed", 1.0)
    world.step(metric(0.04))
    assert world.breaker("margin").reason == "margin of venue:kraken is 0.04, under 0.05"
    world.step(metric(-3.0))
    assert world.breaker("margin").utilization == 10.0


@pytest.mark.parametrize(("bound", "worst"), [({"max": 0.8}, 0.7), ({"min": 0.1}, 0.2)])
def test_the_worst_of_a_scope_counts(bound: dict[str, float], worst: float) -> None:
    """Each symbol at the venue, and the venue by itself, has a number; another name has none."""
    world = margin(**bound)
    world.step(metric(0.3), metric(0.7, symbol="A/B"), metric(0.2, symbol="C/D"))
    world.step(metric(9.0, name="funding"), metric(9.0, venue="mexc"))
    assert value(world) == worst


def test_a_newer_report_replaces_an_older_one() -> None:
    """By the time at which it was taken, whatever comes first."""
    world = margin()
    world.step(metric(0.3))
    old = datetime.fromtimestamp(BEGIN_WALL_NS // 10**9, UTC) + timedelta(seconds=990)
    world.step(metric(0.9, at=old))
    assert value(world) == 0.3
    world.step(metric(0.4))
    assert value(world) == 0.4


def test_an_old_number_does_not_count() -> None:
    """After `max_age` the next worst does; when all are old it is unknown, and holds the gate."""
    world = margin(max_age=10.0)
    world.step(metric(0.7, symbol="A/B"))
    world.wait(4)
    world.step(metric(0.6))
    world.wait(6)
    assert value(world) == 0.7
    world.wait(0.001)
    assert value(world) == 0.6
    world.wait(4)
    breaker = world.breaker("margin")
    assert breaker.unknown == "margin of venue:kraken is older than 10 s: report `metric` events"
    world.wait(4.9)
    assert world.level(VENUE) == "allow"
    world.wait(0.1)
    assert world.level(VENUE) == "halt"
    world.step(metric(0.6))
    assert world.level(VENUE) == "allow"


def test_a_number_that_never_came_is_unknown() -> None:
    """From the venue's first event on."""
    world = margin(on_unknown="reduce_only")
    world.step(latency(0.1))
    unknown = world.breaker("margin").unknown
    assert unknown == "no margin was reported for venue:kraken: report `metric` events"
    world.wait(5)
    assert world.level(VENUE) == "reduce_only"


def test_an_age_that_changes_nothing_is_no_breach() -> None:
    """With `breaches = 3`: when the first of two reports would be old, nothing is evaluated."""
    world = margin(breaches=3, max_age=10.0)
    world.step(metric(0.9))
    world.wait(6)
    world.step(metric(0.9))
    world.wait(9)
    assert (world.state("margin"), value(world)) == ("closed", 0.9)
    world.step(metric(0.9))
    assert world.state("margin") == "open"


@pytest.mark.parametrize(
    ("per", "named", "scope"),
    [
        ("account", {"venue": None}, "account"),
        ("symbol", {"symbol": "A/B"}, "symbol:A/B"),
        ("asset", {"asset": "BTC"}, "asset:BTC"),
        ("asset", {"asset": "USDT"}, "asset:USDT"),
        ("strategy", {"strategy": "mm"}, "strategy:mm"),
    ],
)
def test_any_scope_may_have_numbers(per: str, named: dict[str, Any], scope: str) -> None:
    """A number is kept for each scope that its event names; for the account, if it names none."""
    world = margin(per=per)
    world.step(metric(0.9, **named))
    assert (world.state("margin", scope), world.level(scope)) == ("open", "halt")


def test_an_assets_number_halts_its_symbols() -> None:
    """The funding of BTC halts the trading of BTC."""
    world = margin(per="asset")
    world.step(ev.Price(symbol="BTC/USDT", price=1.0), ev.Price(symbol="ETH/BTC", price=1.0))
    world.step(metric(0.9, asset="BTC"))
    assert (world.level("symbol:BTC/USDT"), world.level("symbol:ETH/BTC")) == ("halt", "allow")


def test_a_schedule_has_the_bounds_key() -> None:
    """A lower maximum at night."""
    night = EitherSlot(from_="22:00", to="03:00", max=0.5)
    world = margin(schedule=(night,), max_age=1e6)
    world.step(metric(0.6))
    assert world.state("margin") == "closed"
    hours(world, "22:00")
    assert world.state("margin") == "open"


def test_a_restored_engine_has_the_numbers() -> None:
    """Their values and ages."""
    world = margin(max_age=10.0)
    world.step(metric(0.7, symbol="A/B"), metric(0.6))
    restored = Engine.restore(world.engine.snapshot())
    assert plain(restored) == plain(world.engine)
    assert restored.next_deadline_ns == world.engine.next_deadline_ns


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"name": "x"}, ["min: is missing"]),
        ({"name": "x", "max": 1.0, "min": 1.0}, ["min: cannot stand beside `max`"]),
        ({"max": 1.0}, ["name: is missing"]),
        ({"name": "x", "max": 0.0}, ["max: must be above 0"]),
        (
            {"name": "x", "max": 1.0, "schedule": [{"from": "01:00", "to": "02:00", "min": 1.0}]},
            ["schedule: each slot must have `max`, as the limit"],
        ),
        (
            {"name": "x", "max": 1.0, "schedule": [{"from": "01:00", "to": "02:00"}]},
            ["schedule[0].min: is missing"],
        ),
    ],
)
def test_bounds_that_are_none(values: dict[str, Any], found: list[str]) -> None:
    """Exactly one of `max` and `min`, also in each slot of the schedule."""
    assert faults(MetricParams, **values) == found


def test_cash_has_numbers_and_no_size() -> None:
    """The reference and a peg are no positions: a limit on sizes per asset is not over them."""
    sizes = [limit("position", max=1.0, per="asset"), limit("inventory", max=1.0, per="asset")]
    world = World(*margin(per="asset").config.limits, *sizes, portfolio=PortfolioConfig(pegs=PEGS))
    world.step(*(metric(0.1, asset=asset) for asset in ("USDT", "USD", "BTC")))
    over = {(one.limit, one.scope) for one in world.view.breakers}
    assert {("margin", f"asset:{one}") for one in ("USDT", "USD", "BTC")} <= over
    sized = {scope for name, scope in over if name in ("position", "inventory")}
    assert sized == {"asset:BTC"}
