"""The engine as a whole: time, scopes, checks and the view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest

from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig, default_limits, dump
from riskmon.core.decisions import LEVEL_NAMES, Record, Sweep, Transition
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.losses import LossParams
from riskmon.core.limits.policy import Recovery
from riskmon.core.timers import NEVER_NS
from tests.core import (
    BEGIN_WALL_NS,
    NO_VENUES,
    OMS,
    SECOND,
    World,
    balances,
    error,
    exact,
    fill,
    latency,
    latency_limit,
    limit,
    loss_limit,
    price,
)


def test_the_defaults() -> None:
    """Without a configuration four limits are on, with the documented bounds."""
    limits = {one.name: one.params for one in default_limits()}
    assert set(limits) == {"latency_p99", "error_streak", "error_rate", "portfolio_loss"}
    assert not any(one.written for one in default_limits())
    assert limits["latency_p99"].bound == 0.2
    assert limits["error_streak"].bound == 5
    assert limits["portfolio_loss"].bound == 0.05
    assert limits["portfolio_loss"].warn == 0.6
    assert limits["latency_p99"].breaches == 5
    assert Engine().view().level == "allow"


PROBES = Recovery(after=30.0, multiplier=2.0, max=300.0, jitter=0.1, probes=3)
VENUE, SYMBOL, ACCOUNT, STRATEGY = ("venue",), ("symbol",), ("account",), ("strategy",)
ANY_BOOK = ("account", "venue", "strategy")


def cooldown(seconds: float) -> Recovery:
    """A recovery with a constant wait, closed after it."""
    return Recovery(after=seconds, multiplier=1.0, max=seconds, jitter=0.0, probes=0)


KINDS: dict[str, tuple[tuple[str, ...], str, Any, dict[str, Any]]] = {
    "latency_p99": (VENUE, "trip", PROBES, {"max": 0.2, "window": 1_000, "min_samples": 100}),
    "error_streak": (("venue", "account"), "trip", cooldown(300.0), {"max": 5}),
    "error_rate": (VENUE, "trip", PROBES, {"max": 0.5, "window": 100, "min_samples": 20}),
    "portfolio_loss": (ACCOUNT, "trip", "operator", {"max": 0.05, "warn": 0.6}),
    "loss": (ANY_BOOK, "trip", "period", {"trailing": False}),
    "daily_loss": (ANY_BOOK, "trip", "period", {"trailing": False}),
    "weekly_loss": (ANY_BOOK, "trip", "period", {"trailing": False}),
    "drawdown": (ACCOUNT, "trip", "operator", {"warn": 0.8}),
    "loss_streak": (STRATEGY, "trip", cooldown(3_600.0), {}),
    "position": (("symbol", "asset"), "block", "clear", {}),
    "total_position": (ACCOUNT, "block", "clear", {}),
    "open_positions": (ACCOUNT, "block", "clear", {}),
    "open_orders": (("account", "venue", "symbol"), "block", "clear", {}),
    "inventory": (("symbol", "asset"), "block", "clear", {}),
    "total_notional": (ACCOUNT, "block", "clear", {}),
    "leverage": (("account", "venue"), "block", "clear", {}),
    "concentration": (ACCOUNT, "block", "clear", {}),
    "metric": (
        ("account", "venue", "symbol", "asset", "strategy"),
        "trip",
        "clear",
        {"name": "x", "max": 0.5, "min": None, "max_age": 300.0},
    ),
    "venue_share": (ACCOUNT, "warn", "clear", {}),
    "edge": (("strategy", "account"), "freeze", "operator", {}),
    "staleness": (("venue", "symbol"), "trip", "clear", {"streams": ()}),
    "heartbeat": (STRATEGY, "trip", "clear", {}),
    "volatility": (SYMBOL, "trip", PROBES, {}),
    "order_notional": (SYMBOL, "block", "operator", {}),
    "order_quantity": (SYMBOL, "block", "operator", {}),
    "price_collar": (SYMBOL, "block", "operator", {"side": "aggressive"}),
    "message_rate": (("venue", "account", "strategy"), "block", "operator", {}),
    "order_count": (("account", "venue", "strategy"), "block", "period", {}),
    "repeat_orders": (STRATEGY, "block", "operator", {"freeze_at": None}),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_the_table_of_kinds(kind: str) -> None:
    """The default scope, effect and recovery of each kind."""
    scopes, on_breach, recover, own = KINDS[kind]
    params = LIMITS[kind].Params
    bound: dict[str, Any] = {} if "max" in own else {"min" if kind == "edge" else "max": 0.5}
    if kind in ("loss_streak", "repeat_orders"):
        bound = {"max": 2.0}
    if kind == "metric":
        bound = {"max": 0.5, "name": "x"}
    found = params(**bound)
    assert get_args(get_type_hints(params)["per"]) == scopes
    assert (found.per, found.on_breach, found.recover) == (scopes[0], on_breach, recover)
    assert found.breaches == (5 if kind == "latency_p99" else 1)
    assert (found.clear, found.hold, found.level, found.cancels) == (1.0, 0.0, "halt", "all")
    assert (found.flatten, found.on_unknown, found.enabled) == (False, None, True)
    assert (found.for_, found.unknown_level) == (
        0.0,
        "reduce_only" if on_breach == "block" else "halt",
    )
    assert found.warn == own.get("warn", 0.8)
    assert all(getattr(found, key) == value for key, value in own.items())


def test_a_whole_incident() -> None:
    """A venue slows down, its scope halts, orders are cancelled, and it recovers."""
    world = World(latency_limit(window=100, min_samples=100, breaches=5), targets=OMS)
    world.each([latency(0.1)] * 99)
    world.each([latency(0.25)] * 5)  # one slow sample of a hundred is within the bound
    assert world.level("venue:kraken") == "allow"
    outcome = world.step(latency(0.25))
    told = [type(decision) for decision in outcome.decisions]
    assert (told.count(Sweep), told.count(Transition)) == (1, 1)
    assert world.engine.levels == {"account": 3, "venue:kraken": 0}
    incident = world.incident
    world.confirm()
    world.wait(30)
    assert world.level("venue:kraken") == "probe"
    assert [world.check().allowed for _ in range(4)] == [True, True, True, False]
    world.each([latency(0.1)] * 3)
    assert world.level("venue:kraken") == "allow"
    record = world.record(incident)
    assert (record.kind, record.limit, record.scope) == ("trip", "latency_p99", "venue:kraken")
    assert (record.value, record.bound, record.sweeps) == (0.25, 0.2, 2)
    assert record.ended_by == "3 good probes"
    assert world.view.cancel == []
    assert [c.after for c in world.transitions] == ["open", "half_open", "closed"]


@pytest.mark.parametrize("sample", [latency(9.0), error()], ids=["latency", "error"])
def test_a_sample_after_a_configuration_in_one_step_counts(sample: ev.Event) -> None:
    """A sample that follows a reload in the same step counts in the steps after it."""
    world = World(latency_limit(min_samples=2), limit("error_streak", max=2, breaches=1))
    world.step(ev.Configured(config=dump(world.config)), sample)
    world.step(sample)
    assert world.level("venue:kraken") == "halt"


def test_time_never_goes_back() -> None:
    """A step of the clock backwards changes no wait."""
    world = World(limit("error_streak", max=1))
    world.step(error())
    world.engine.step([ev.Tick()], now_ns=5, wall_ns=5)
    assert world.engine.state.now_ns == world.now_ns
    world.wait(300)
    assert world.state("error_streak") == "closed"


def test_the_next_deadline() -> None:
    """The next deadline is the earliest timer, or never."""
    world = World(limit("error_streak", max=1))
    assert world.engine.next_deadline_ns == NEVER_NS
    world.step(error())
    assert world.engine.next_deadline_ns == world.now_ns + 300 * SECOND


def test_due_timers_fire_at_the_next_step() -> None:
    """Timers that became due while the process was suspended fire at the next step."""
    world = World(limit("error_streak", max=1))
    world.step(error())
    world.now_ns += 3_600 * SECOND
    world.step(latency(0.1))
    assert world.state("error_streak") == "closed"


def test_events_register_their_scopes() -> None:
    """Every scope that an event names has a level from then on."""
    world = World()
    world.step(latency(0.1), fill("buy", 1.0, 1.0, "BTC/USDT", venue="mexc", strategy="mm1"))
    world.step(ev.Heartbeat(symbol="ETH/USDT", strategy="mm2"))
    assert set(world.engine.levels) == {
        "account",
        *("venue:kraken", "venue:mexc"),
        *("symbol:BTC/USDT", "symbol:ETH/USDT"),
        *("strategy:mm1", "strategy:mm2"),
    }


NAMED: dict[str, Any] = {
    "venue": "kraken",
    "symbol": "BTC/USDT",
    "strategy": "mm",
    "from_venue": "kraken",
    "to_venue": "mexc",
}
# The scopes that a type names beside those of its fields in NAMED.
NAMED_BESIDE: dict[Any, set[str]] = {
    ev.Orders: {"symbol:BTC/USDT", "strategy:mm"},
    ev.Positions: {"symbol:BTC/USDT"},
    ev.Metric: {"asset:BTC"},
}


MORE: dict[Any, dict[str, Any]] = {
    ev.Latency: {"seconds": 0.1},
    ev.Error: {},
    ev.Balance: {"asset": "USDT", "free": 1.0},
    ev.Balances: {"assets": {}},
    ev.Price: {"price": 9.0},
    ev.Fill: {"id": "1", "side": "buy", "quantity": 1.0, "price": 9.0},
    ev.Order: {"id": "1", "status": "open"},
    ev.Orders: {"orders": [ev.RestingOrder(id="1", symbol="BTC/USDT", strategy="mm")]},
    ev.Position: {"quantity": 1.0, "entry_price": 9.0},
    ev.Positions: {
        "positions": [ev.VenuePosition(symbol="BTC/USDT", quantity=1.0, entry_price=9.0)]
    },
    ev.Pnl: {"id": "1", "amount": 1.0},
    ev.CashFlow: {"id": "1", "asset": "USDT", "amount": 1.0},
    ev.Transfer: {"id": "1", "asset": "USDT", "amount": 1.0},
    ev.Metric: {"name": "margin", "value": 1.0, "asset": "BTC"},
    ev.Edge: {"bps": 9.0},
    ev.OpenOrders: {"count": 0},
    ev.Heartbeat: {},
    ev.Check: {"side": "buy", "quantity": 1.0, "price": 9.0},
}


@pytest.mark.parametrize("kind", MORE, ids=lambda kind: kind.__name__)
def test_every_type_registers_what_it_names(kind: Any) -> None:
    """Each type registers its venues, symbols and strategies, a metric its asset too."""
    assert set(ev.Reported.__args__) < set(MORE)
    world = World(portfolio=NO_VENUES)
    named = {key: name for key, name in NAMED.items() if key in kind.__struct_fields__}
    world.step(kind(**MORE[kind], **named))
    scopes = {f"{key.removeprefix('from_').removeprefix('to_')}:{n}" for key, n in named.items()}
    assert set(world.engine.levels) == {"account", *scopes, *NAMED_BESIDE.get(kind, ())}


def test_configured_scopes_have_a_level_from_the_start() -> None:
    """Venues, and scopes of overrides, need no event."""
    own = limit("position", max=5.0, overrides={"symbol:BTC/USDT": 2.0})
    world = World(own, portfolio=PortfolioConfig(venues=("kraken",)))
    assert world.level("venue:kraken") == "allow"
    assert world.level("symbol:BTC/USDT") == "allow"


def test_a_scope_inherits_a_shut_account() -> None:
    """A scope that is registered while the account is frozen is at halt from the start."""
    world = World()
    world.operate("freeze")
    world.step(latency(0.1, "new"))
    assert world.level("venue:new") == "halt"


def test_too_many_scopes_are_refused() -> None:
    """`admit` raises for the new scopes that do not fit; known scopes always fit."""
    world = World(max_scopes=2)
    world.engine.admit([latency(0.1)])
    world.step(latency(0.1))
    world.engine.admit([latency(0.1)])
    with pytest.raises(TooManyScopes, match="venue:mexc"):
        world.engine.admit([latency(0.1), latency(0.1, "mexc")])


def test_checks_follow_the_lowest_level() -> None:
    """An order is allowed when account, venue, symbol and strategy all allow it."""
    world = World(latency_limit())
    world.step(latency(0.1), latency(0.1, "mexc"))
    assert world.check(strategy="mm1").allowed
    world.step(latency(1.0))
    refused = world.check(strategy="mm1")
    assert (refused.allowed, refused.level) == (False, "halt")
    (blame,) = refused.reasons
    assert (blame.limit, blame.scope, blame.bound) == ("latency_p99", "venue:kraken", 0.2)
    assert blame.value == 1.0
    assert blame.utilization == pytest.approx(5.0)
    assert world.check(venue="mexc").allowed
    assert world.view.orders_checked == {"allowed": 2, "refused": 1}
    assert world.view.orders_blocked == {"latency_p99": 1}


@pytest.mark.parametrize("scope", ["account", "venue:kraken", "symbol:BTC/USDT", "strategy:mm"])
def test_each_scope_of_an_order_may_hold_it(scope: str) -> None:
    """A freeze of any of its four scopes refuses an order by name, and no order elsewhere."""
    world = World()
    world.step(ev.Heartbeat(venue="kraken", symbol="BTC/USDT", strategy="mm"))
    world.operate("freeze", scope)
    refused = world.check(strategy="mm")
    assert [(blame.limit, blame.scope) for blame in refused.reasons] == [("manual", scope)]
    elsewhere = {"venue": "mexc", "symbol": "ETH/USDT", "strategy": "other"}
    assert world.check(**elsewhere).allowed is (scope != "account")


def test_an_unknown_venue_is_not_allowed_by_simulation() -> None:
    """A simulated order registers no scope: an unknown venue is at halt."""
    world = World(portfolio=NO_VENUES)
    refused = world.check(simulate=True)
    assert (refused.allowed, {b.limit for b in refused.reasons}) == (False, {"unregistered"})
    assert "venue:kraken" not in world.engine.levels
    assert world.check().allowed
    assert world.view.orders_checked == {"allowed": 1, "refused": 0}


def test_permits_lapse() -> None:
    """An unused permit is available again after 5 s; a simulation uses none."""
    world = World(latency_limit())
    world.step(latency(1.0), ev.Heartbeat(symbol="BTC/USDT"))
    world.wait(30)
    assert all(world.check(simulate=True).allowed for _ in range(5))
    assert [world.check().allowed for _ in range(4)] == [True, True, True, False]
    world.wait(4.9)
    assert not world.check().allowed
    world.wait(0.1)
    assert world.check().allowed


def test_permits_belong_to_one_half_open_state() -> None:
    """Permits from before a bad probe do not count in the next half-open state."""
    world = World(latency_limit(recover=exact(1.0, multiplier=1.0)))
    for _ in range(2):
        world.step(latency(1.0))
        world.wait(1)
        assert [world.check().allowed for _ in range(4)] == [True, True, True, False]


def test_an_order_needs_a_permit_of_each_half_open_breaker() -> None:
    """The half-open breaker with the fewest probes decides, and the refusal names it."""
    world = World(latency_limit(), latency_limit(name="few", recover=exact(30.0, probes=1)))
    world.step(latency(1.0), latency(0.1, "mexc"))
    world.wait(30)
    assert world.check().allowed
    assert [(blame.limit, blame.scope) for blame in world.check().reasons] == [
        ("few", "venue:kraken")
    ]
    assert world.check(venue="mexc").allowed
    world.step(latency(0.1))
    assert (world.state("few"), world.state("latency_p99")) == ("closed", "half_open")
    assert [world.check().allowed for _ in range(3)] == [True, True, False]


def test_the_view() -> None:
    """The view has the window's statistics, the portfolio and the last event of each venue."""
    world = World(latency_limit(window=100), loss_limit())
    world.step(*[latency(n / 1_000) for n in range(2, 201, 2)])
    world.step(balances(USDT=1_000.0), price("BTC/USDT", 100.0, "mexc"), ev.Edge(bps=-2.0))
    view = world.view
    (window,) = view.latency
    assert (window.count, window.min, window.p99, window.max) == (100, 0.002, 0.198, 0.2)
    assert view.level == LEVEL_NAMES[3]
    assert [(e.strategy, e.bps) for e in view.edges] == [("", -2.0)]
    heard = {(e.venue, e.stream): e.at_ns for e in view.last_events}
    assert set(heard) == {("kraken", "latency"), ("kraken", "balances"), ("mexc", "price")}
    assert set(heard.values()) == {BEGIN_WALL_NS + world.now_ns}
    breaker = world.breaker("portfolio_loss", "account")
    assert (breaker.value, breaker.bound, breaker.utilization) == (0.0, 0.05, 0.0)


def test_utilization_is_clamped() -> None:
    """value / bound, from 0 to 10."""
    world = World(latency_limit(on_breach="warn"))
    world.step(latency(0.1))
    assert world.breaker("latency_p99").utilization == pytest.approx(0.5)
    world.step(latency(99.0))
    assert world.breaker("latency_p99").utilization == 10.0


def test_starts_and_stops_are_recorded() -> None:
    """Each start and stop has a record in the audit trail."""
    world = World()
    world.step(ev.Stop())
    kinds = [d.kind for d in world.decisions if isinstance(d, Record)]
    assert kinds == ["start", "stop"]


def test_a_limit_with_enabled_false_is_left_out() -> None:
    """`enabled = false` leaves a limit out."""
    world = World(latency_limit(enabled=False))
    world.step(latency(9.0))
    assert world.view.breakers == []
    assert EngineConfig().limits == ()


def test_a_rolling_loss_of_unknown_equity_ends_its_step() -> None:
    """The oldest minute leaves the window while a mark has expired: the step ends, with unknown."""
    params = LossParams(max=100.0, period=1)
    world = World(
        LimitConfig(name="loss", kind="loss", params=params, written=True),
        portfolio=PortfolioConfig(initial_capital=10_000.0, venues=("kraken",)),
    )
    world.step(balances("kraken", USDT=10_000.0), price("BTC/USDT:USDT", 100.0, "kraken"))
    world.step(fill("buy", 1.0, 100.0))
    for _ in range(80):
        world.wait(60)
        world.step(balances("kraken", USDT=10_000.0))
    assert world.portfolio.equity is None
    assert world.breaker("loss", "account").unknown is not None


def test_a_configuration_takes_effect_within_its_step() -> None:
    """What follows a configuration in one step has the result that it has in a step of its own."""
    limits = (limit("position", max=1.0), limit("error_rate", max=0.5, min_samples=1))
    first = (error(), fill("buy", 2.0, 1.0, "BTC/USDT", id="1"))
    then = (error(), fill("buy", 2.0, 1.0, "BTC/USDT", id="1"), price("BTC/USDT", 3.0), error())
    worlds = [World(), World()]
    reload = ev.Configured(config=dump(replace(worlds[0].config, limits=limits)))
    together = worlds[0].step(*first, reload, *then)
    apart = [worlds[1].step(*events) for events in ((*first, reload), then)]
    assert together.duplicates == sum(outcome.duplicates for outcome in apart) == 1
    assert worlds[0].view == worlds[1].view
    assert worlds[0].breaker("position", "symbol:BTC/USDT").value == 2.0
