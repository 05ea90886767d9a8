"""`for`: how long a value must stay past its bound before the limit acts."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.engine import Engine
from tests.core import (
    OMS,
    World,
    exact,
    fill,
    latency,
    latency_limit,
    limit,
    plain,
    run,
)

SIZE = "symbol:BTC/USDT"


def spot(side: Any, quantity: float, **more: Any) -> ev.Fill:
    """A fill at 100."""
    return fill(side, quantity, 100.0, "BTC/USDT", **more)


def edge(bps: float) -> ev.Edge:
    """An edge of the account."""
    return ev.Edge(bps=bps)


def edges(**params: Any) -> World:
    """A limit of 100 bps on the account's edge, old after 15 s."""
    portfolio = PortfolioConfig(max_age=MaxAge(edge=15.0), unknown_grace=1_000.0)
    policy: dict[str, Any] = {"on_breach": "trip", "min": 100.0, "per": "account", **params}
    return World(limit("edge", written=True, **policy), portfolio=portfolio, targets=OMS)


def test_a_value_must_stay_past_its_bound() -> None:
    """Nothing is reported anew: it acts in the very instant in which `for` has passed."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=10.0))
    world.step(spot("buy", 2.0))
    world.wait(9.999)
    assert (world.state("position", SIZE), world.level()) == ("closed", "allow")
    world.wait(0.001)
    assert world.state("position", SIZE) == "open"
    assert world.breaker("position", SIZE).breaches_total == 1


def test_a_value_within_its_bound_starts_it_anew() -> None:
    """8 s past, a moment within, 8 s past: no trip before 10 s in one piece."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=10.0))
    world.step(spot("buy", 2.0))
    world.wait(8)
    world.step(spot("sell", 1.0, id="less"))
    world.step(spot("buy", 1.0, id="more"))
    world.wait(9.999)
    assert world.state("position", SIZE) == "closed"
    world.wait(0.001)
    assert world.state("position", SIZE) == "open"


@pytest.mark.parametrize("on_breach", ["block", "reduce"])
def test_it_delays_the_gate(on_breach: str) -> None:
    """A limit that blocks or reduces holds its scope once `for` has passed, and lets go at once."""
    world = World(limit("position", max=1.0, on_breach=on_breach, for_=10.0))
    world.step(spot("buy", 2.0))
    world.wait(9)
    assert world.level(SIZE) == "allow"
    world.wait(1)
    assert world.level(SIZE) == "reduce_only"
    world.step(spot("sell", 1.0))
    assert world.level(SIZE) == "allow"


def test_it_delays_no_refusal_and_an_order_trips_nothing() -> None:
    """A checked order past the bound is refused at once, however often; the breaker is closed."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=10.0, recover="clear"))
    for _ in range(3):
        assert world.check(quantity=2.0).allowed is False
        world.wait(20)
    assert world.state("position", SIZE) == "closed"
    assert world.breaker("position", SIZE).breaches_total == 3
    assert world.check(quantity=1.0).allowed is True


def test_orders_past_their_bound_for_long_enough_trip() -> None:
    """A limit on orders is evaluated by each order: all of 10 s must be past the bound."""
    world = World(limit("order_quantity", max=1.0, on_breach="trip", for_=10.0))
    world.check(quantity=2.0)
    world.wait(9)
    world.check(quantity=1.0)
    world.wait(1)
    world.check(quantity=2.0)
    world.wait(9)
    assert world.check(quantity=2.0).allowed is False
    assert world.state("order_quantity", SIZE) == "closed"
    world.wait(1)
    world.check(quantity=2.0)
    assert world.state("order_quantity", SIZE) == "open"


@pytest.mark.parametrize("kind", ["position", "order_quantity"])
def test_breaches_delay_the_trip_of_an_order(kind: str) -> None:
    """With `breaches = 3` the third order in a row past the bound trips, and each is refused."""
    world = World(limit(kind, max=1.0, on_breach="trip", breaches=3))
    world.check(quantity=1.0)
    states = []
    for _ in range(3):
        assert world.check(quantity=2.0).allowed is False
        states.append(world.state(kind, SIZE))
    assert states == ["closed", "closed", "open"]


def test_both_breaches_and_for_must_be_reached() -> None:
    """Three evaluations and 10 s, whichever is later."""
    world = edges(breaches=3, for_=10.0)
    world.step(edge(50.0))
    world.wait(10)
    assert world.state("edge", "account") == "closed"  # long enough, and only one evaluation
    world.each([edge(50.0), edge(50.0)])
    assert world.state("edge", "account") == "open"
    world = edges(breaches=3, for_=10.0)
    world.each([edge(50.0)] * 3)
    assert world.state("edge", "account") == "closed"
    world.wait(10)
    assert world.state("edge", "account") == "open"


def test_an_unknown_moment_neither_counts_nor_starts_it_anew() -> None:
    """15 s known, 100 s unknown, and then the other 5 s of 20."""
    world = edges(for_=20.0)
    world.step(edge(50.0))
    world.wait(115)
    assert world.breaker("edge", "account").unknown is not None
    world.step(edge(50.0))
    world.wait(4.99)
    assert world.state("edge", "account") == "closed"
    world.wait(0.01)
    assert world.state("edge", "account") == "open"


def test_a_window_acts_without_a_sample() -> None:
    """A P99 that stays over its bound trips by time alone, and by a later sample all the same."""
    world = World(latency_limit(for_=10.0))
    world.step(latency(0.3))
    world.wait(9.9)
    assert world.state("latency_p99") == "closed"
    world.wait(0.1)
    assert world.state("latency_p99") == "open"


def test_a_window_that_expires_meanwhile_starts_it_anew() -> None:
    """A window of 5 s: one slow sample is not past the bound for 10 s."""
    world = World(latency_limit(for_=10.0, seconds=5.0))
    world.step(latency(0.3))
    world.wait(9)
    world.step(latency(0.3))
    world.wait(4)
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.3))
    world.wait(4)
    world.step(latency(0.3))
    world.wait(2)
    assert world.state("latency_p99") == "open"


@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.0])
def test_a_reload_changes_it(seconds: float) -> None:
    """What has passed counts towards the new `for`: 8 s of 30 are enough for 5."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=30.0), latency_limit(for_=30.0))
    world.step(spot("buy", 2.0), latency(0.3))
    world.wait(8)
    world.configure(
        limit("position", max=1.0, on_breach="trip", for_=seconds), latency_limit(for_=seconds)
    )
    due = seconds <= 8
    states = [world.state("position", SIZE), world.state("latency_p99")]
    assert states == (["open", "open"] if due else ["closed", "closed"])
    if not due:
        world.wait(51.9)
        assert world.state("latency_p99") == "closed"
        world.wait(0.1)
        assert (world.state("position", SIZE), world.state("latency_p99")) == ("open", "open")


def test_a_snapshot_keeps_it() -> None:
    """An engine that is restored in between trips in the same instant, in the same state."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=10.0))
    world.step(spot("buy", 2.0))
    world.wait(4)
    restored = Engine.restore(world.engine.snapshot())
    due_ns = world.now_ns + 6 * 10**9
    assert restored.next_deadline_ns == world.engine.next_deadline_ns == due_ns
    for now_ns in (due_ns - 1, due_ns):
        for engine in (world.engine, restored):
            run(engine, [ev.Tick()], now_ns)
        assert plain(restored) == plain(world.engine)
    assert world.state("position", SIZE) == "open"


def test_the_time_in_which_riskmon_is_down_does_not_count() -> None:
    """4 s before an hour of downtime, and 6 s after it."""
    world = World(limit("position", max=1.0, on_breach="trip", for_=10.0))
    world.step(spot("buy", 2.0))
    world.wait(4)
    world.now_ns += 3_600 * 10**9
    world.step(ev.Start(epoch="e2"))
    world.wait(5.99)
    assert world.state("position", SIZE) == "closed"
    world.wait(0.01)
    assert world.state("position", SIZE) == "open"


def test_a_reset_starts_it_anew() -> None:
    """After an operator's reset the value must stay past its bound for as long again."""
    world = World(limit("error_streak", max=2, for_=5.0, recover=exact(100.0, probes=0)))
    world.step(ev.Error(venue="kraken"), ev.Error(venue="kraken"))
    world.wait(5)
    assert world.state("error_streak") == "open"
    world.operate("reset", "venue:kraken")
    world.step(ev.Error(venue="kraken"), ev.Error(venue="kraken"))
    world.wait(4.99)
    assert world.state("error_streak") == "closed"
    world.wait(0.01)
    assert world.state("error_streak") == "open"
