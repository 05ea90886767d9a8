"""Random stories for the engine: everything that may happen, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from riskmon.core import events as ev
from riskmon.core.config import LimitConfig, PortfolioConfig
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
    price,
)

PORTFOLIO = PortfolioConfig(initial_capital=1_000.0, pegs={"USD": 1.0})
VENUES = st.sampled_from(("kraken", "mexc"))
SCOPES = st.sampled_from(("account", "venue:kraken", "venue:mexc", "symbol:BTC/USDT"))
SYMBOLS = st.sampled_from(("BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "ETH/BTC"))
AMOUNTS = st.sampled_from((1e-15, 1e-8, 0.5, 3.0, 940.0, 1_000.0, 1e9, 1e15))
PRICES = st.sampled_from((1e-15, 0.03, 90.0, 100.0, 60_000.0, 1e15))
ACTIONS = st.sampled_from(("freeze", "unfreeze", "trip", "reset", "disable", "enable"))


def story_limits(on_breach: str = "trip", **params: Any) -> tuple[LimitConfig, ...]:
    """Quick ones of every kind."""
    return (
        latency_limit(on_breach=on_breach, window=4, breaches=2, **params),
        latency_limit(name="recent", seconds=20.0, recover="clear"),
        limit("error_streak", max=2, recover=exact(20.0, probes=0)),
        loss_limit(written=True, recover="clear", hold=10.0, breaches=2),
    )


def tell() -> World:
    """The world in which stories happen."""
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
        st.tuples(st.just("check"), SYMBOLS, VENUES),
        st.tuples(st.just("orders"), VENUES, st.sampled_from((0, 1))),
        st.tuples(st.just("sent")),
        st.tuples(st.just("answered"), st.booleans()),
        st.tuples(st.just("reload"), st.sampled_from(("trip", "block", "freeze", "shadow"))),
        st.tuples(st.just("look")),
    ),
    max_size=40,
)


def play(world: World, number: int, what: Any) -> None:
    """One thing happens."""
    kind, *rest = what
    if kind in _REPORTED:
        world.step(_REPORTED[kind](*rest))
    elif kind == "fill":
        symbol, venue, buys, quantity, each = rest
        side = "buy" if buys else "sell"
        world.step(fill(side, quantity, each, symbol, venue=venue, id=str(number), strategy="mm"))
    elif kind == "flow":
        world.step(flow(rest[2], rest[1], venue=rest[0], id=str(number)))
    elif kind == "wait":
        world.wait(rest[0])
    elif kind == "operate":
        world.operate(rest[0], rest[1], force=rest[2], rebase=rest[2], for_seconds=50.0)
    elif kind == "check":
        world.check(symbol=rest[0], venue=rest[1])
    elif kind == "reload":
        world.configure(*story_limits(rest[0]))
    elif kind == "look":
        _ = world.view
    else:
        _tell_of_cancels(world, kind, *rest)


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
    "orders": lambda venue, count: ev.OpenOrders(venue=venue, count=count),
}


def _tell_of_cancels(world: World, kind: str, done: bool = False) -> None:
    for one in world.engine.view().cancel:
        if kind == "sent":
            world.sent(one.sweep, incident=one.incident)
        else:
            world.answered(one.sweep, done=done, incident=one.incident)
