"""Random stories for the engine: every event, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.limits.metric import MetricParams
from tests.core import (
    OMS,
    World,
    balance,
    balances,
    error,
    exact,
    fill,
    flow,
    latency,
    latency_limit,
    limit,
    loss_limit,
    plain,
    price,
)

PORTFOLIO = PortfolioConfig(initial_capital=1_000.0, pegs={"USD": 1.0})
VENUES = st.sampled_from(("kraken", "mexc"))
SCOPES = st.sampled_from(
    (
        "account",
        "venue:kraken",
        "venue:mexc",
        "symbol:BTC/USDT",
        "asset:BTC",
        "strategy:mm",
        "strategy:new",
    )
)
SYMBOLS = st.sampled_from(("BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "ETH/BTC"))
AMOUNTS = st.sampled_from((1e-15, 1e-8, 0.5, 3.0, 940.0, 1_000.0, 1e9, 1e15))
PRICES = st.sampled_from((1e-15, 0.03, 90.0, 100.0, 60_000.0, 1e15))
SIDES = st.sampled_from(("buy", "sell"))
ORDERS = st.sampled_from(("a", "b"))
ACTIONS = st.sampled_from(("freeze", "unfreeze", "trip", "reset", "disable", "enable"))


def story_limits(on_breach: str = "trip", **params: Any) -> tuple[LimitConfig, ...]:
    """Limits of every kind, with short times."""
    return (
        latency_limit(on_breach=on_breach, window=4, breaches=2, **params),
        latency_limit(name="recent", seconds=20.0, recover="clear"),
        limit("error_streak", max=2, recover=exact(20.0, probes=0)),
        loss_limit(written=True, recover="clear", hold=10.0, breaches=2),
        limit("error_rate", window=6, min_samples=3, recover=exact(10.0, probes=1)),
        *_exposure_limits(on_breach),
        limit("edge", min=100.0, written=True),
        limit("edge", "thin", min=150.0, on_breach=on_breach, recover="clear", breaches=2),
        limit("staleness", max=20.0, streams=("price", "fill")),
        limit("staleness", "quiet", per="symbol", max=30.0, for_=7.0, on_breach=on_breach),
        limit("heartbeat", max=10.0),
        limit("venue_share", max=0.9, for_=3.0, on_breach=on_breach),
        metric_limit("venue", max=0.8, for_=4.0, on_breach=on_breach, on_unknown="reduce_only"),
        metric_limit("asset", min=0.2, breaches=2),
        limit("loss_streak", max=2.0, for_=2.0, recover=exact(5.0, probes=2)),
        limit("order_notional", max=1e6, on_breach=on_breach, recover="clear"),
        limit("order_quantity", max=1e3),
        limit("price_collar", max=0.5, on_breach="warn"),
        limit("message_rate", max=0.3, burst=3.0),
        limit("repeat_orders", max=1.0, freeze_at=3.0),
    )


def metric_limit(per: Any, **params: Any) -> LimitConfig:
    """A limit on the margin ratio, old after 50 s."""
    policy = MetricParams(name="margin", per=per, max_age=50.0, **params)
    return LimitConfig(name=f"margin_{per}", kind="metric", params=policy, written=True)


def _exposure_limits(on_breach: Any) -> tuple[LimitConfig, ...]:
    return (
        limit("position", max=5.0, for_=5.0, on_breach=on_breach),
        limit("total_position", max=1e6, on_breach=on_breach, hold=5.0),
        limit("open_positions", max=2.0, on_breach="trip", recover=exact(10.0, probes=1)),
        limit("inventory", max=1e5, on_breach=on_breach, overrides={"symbol:BTC/USDT": 1e4}),
        limit("total_notional", max=1e6, on_breach="reduce", written=True),
        limit("concentration", max=0.5, on_breach="shadow"),
    )


def story_world() -> World:
    """Return the world of a story."""
    return World(*story_limits(), targets=OMS, portfolio=PORTFOLIO, max_scopes=32)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from((0.0, 0.5, 1.0, 6.0, 31.0, 400.0))),
        st.tuples(st.just("latency"), st.sampled_from((0.1, 0.18, 0.5)), VENUES),
        st.tuples(st.just("probe"), st.sampled_from((0.1, 0.5)), VENUES),
        st.tuples(st.just("error"), VENUES, st.sampled_from((None, "add"))),
        st.tuples(st.just("balances"), VENUES, AMOUNTS, AMOUNTS),
        st.tuples(st.just("balance"), VENUES, AMOUNTS),
        st.tuples(st.just("price"), SYMBOLS, PRICES, st.none() | VENUES),
        st.tuples(st.just("fill"), SYMBOLS, VENUES, st.booleans(), AMOUNTS, PRICES),
        st.tuples(st.just("position"), SYMBOLS, VENUES, AMOUNTS, PRICES | st.just(0.0)),
        st.tuples(st.just("flow"), VENUES, st.sampled_from(("USDT", "BTC")), AMOUNTS),
        st.tuples(st.just("operate"), ACTIONS, SCOPES, st.booleans()),
        st.tuples(st.just("check"), SYMBOLS, VENUES, SIDES, AMOUNTS, PRICES, ORDERS),
        st.tuples(st.just("dry"), SYMBOLS, VENUES, SIDES, AMOUNTS, PRICES, ORDERS),
        st.tuples(st.just("order"), ORDERS, st.none() | AMOUNTS | st.just(0.0)),
        st.tuples(st.just("edge"), st.sampled_from((-500.0, 120.0, 300.0)), st.booleans()),
        st.tuples(st.just("beat"), st.booleans()),
        st.tuples(st.just("metric"), st.sampled_from((-0.5, 0.1, 0.5, 0.9)), st.booleans()),
        st.tuples(st.just("orders"), VENUES, st.sampled_from((0, 1))),
        st.tuples(st.just("sent")),
        st.tuples(st.just("answered"), st.booleans()),
        st.tuples(st.just("reload"), st.sampled_from(("trip", "block", "freeze", "shadow"))),
        st.tuples(st.just("look")),
    ),
    max_size=40,
)


def play(world: World, number: int, what: Any) -> None:
    """Apply one step of a story."""
    kind, *rest = what
    if kind in _REPORTED:
        world.step(_REPORTED[kind](*rest))
    elif kind == "fill":
        symbol, venue, buys, quantity, each = rest
        side = "buy" if buys else "sell"
        more = {"id": str(number), "strategy": "mm", "order_id": "ab"[number % 2]}
        world.step(fill(side, quantity, each, symbol, venue=venue, **more))
    elif kind == "flow":
        world.step(flow(rest[2], rest[1], venue=rest[0], id=str(number)))
    elif kind == "wait":
        world.wait(rest[0])
    elif kind == "operate":
        rebase = rest[2] and rest[0] in ("reset", "unfreeze")
        world.operate(rest[0], rest[1], force=rest[2], rebase=rebase, for_seconds=50.0)
    elif kind in ("check", "dry"):
        _check(world, *rest, simulate=kind == "dry")
    elif kind == "reload":
        world.configure(*story_limits(rest[0]))
    elif kind == "look":
        _ = world.view
    else:
        _report_cancels(world, kind, *rest)


def _check(world: World, symbol: str, venue: str, *rest: Any, simulate: bool) -> None:
    """Check an order: none at halt; a dry run changes nothing; a refusal names its limits."""
    side, quantity, each, name = rest
    world.step(ev.Tick())  # what is due at this instant is due without the order
    before = plain(world.engine)
    answer = world.check(
        symbol=symbol,
        venue=venue,
        side=side,
        quantity=quantity,
        price=each,
        id=name,
        strategy="mm",
        simulate=simulate,
    )
    assert answer.allowed is not bool(answer.reasons)
    assert not (answer.allowed and answer.level == "halt")
    assert not simulate or plain(world.engine) == before


def _order(name: str, remaining: float | None) -> ev.Order:
    return ev.Order(
        id=name,
        venue="kraken",
        symbol="BTC/USDT",
        status="closed" if remaining is None else "open",
        remaining=remaining,
    )


def _position(symbol: str, venue: str, quantity: float, entry: float) -> ev.Position:
    return ev.Position(
        venue=venue, symbol=symbol, quantity=-quantity, entry_price=entry, contract_size=100.0
    )


_REPORTED: dict[str, Callable[..., ev.Event]] = {
    "latency": latency,
    "probe": lambda seconds, venue: latency(seconds, venue, "probe"),
    "error": error,
    "balances": lambda venue, usdt, btc: balances(venue, USDT=usdt, BTC=btc),
    "balance": lambda venue, usdt: balance("USDT", usdt, venue),
    "price": price,
    "position": _position,
    "order": _order,
    "edge": lambda bps, named: ev.Edge(bps=bps, strategy="mm" if named else None),
    "beat": lambda final: ev.Heartbeat(strategy="mm", final=final),
    "metric": lambda value, of_asset: ev.Metric(
        name="margin", value=value, venue="kraken", asset="BTC" if of_asset else None
    ),
    "orders": lambda venue, count: ev.OpenOrders(venue=venue, count=count),
}


def _report_cancels(world: World, kind: str, done: bool = False) -> None:
    for one in world.engine.view().cancel:
        if kind == "sent":
            world.sent(one.sweep, incident=one.incident)
        else:
            world.answered(one.sweep, done=done, incident=one.incident)
