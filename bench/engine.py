"""The engine's cost for each event, with every kind of limit on, beside a dictionary lookup."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import count
from time import perf_counter_ns
from typing import Any

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig, PortfolioConfig
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy

VENUE = "kraken"
BATCH = 1_000
STEPS = 2_000
ROUNDS = 5
WINDOWS = (1_000, 100_000)
SYMBOLS = (100, 10_000)
LATENCY_US, FILL_US, BALANCE_US, CHECK_US = 1.5, 8.0, 8.0, 20.0
GROWTH = 1.3  # from the few symbols to the many
_START_NS = 1_750_000_000 * 10**9

Make = Callable[[int], ev.Event]


def run() -> list[tuple[str, str]]:
    """Measure on this machine; the ratios are what carries over to another."""
    table = {"venue": 1}
    lookup_us = min(timeit.repeat(lambda: table["venue"], number=200_000, repeat=5)) / 0.2
    rows = [("engine: dictionary lookup", f"{lookup_us * 1e3:.0f} ns")]
    latency = {size: _latency_us(size) for size in WINDOWS}
    for size, us in latency.items():
        what = f"engine: a latency in a batch, window {size:,}"
        rows.append((what, _figure(us, LATENCY_US, lookup_us)))
    small, large = WINDOWS
    growth = latency[large] / latency[small]
    rows.append((f"engine: a latency, window {large:,} to {small:,}", f"{growth:.2f} ×"))
    costs = {size: _costs_us(size) for size in SYMBOLS}
    few, many = SYMBOLS
    for what, target in (("fill", FILL_US), ("balance", BALANCE_US), ("check", CHECK_US)):
        low, high = costs[few][what], costs[many][what]
        rows += [
            (f"engine: a {what}, {few} symbols", _figure(low, target, lookup_us)),
            (f"engine: a {what}, {many:,} symbols", _figure(high, target, lookup_us)),
            (
                f"engine: a {what}, {many:,} symbols to {few}",
                f"{high / low:.2f} × (target {GROWTH:g})",
            ),
        ]
    return rows


def _figure(us: float, target_us: float, lookup_us: float) -> str:
    return f"{us:.2f} µs (target {target_us:g}), {us / lookup_us:.0f} × lookup"


def _engine(**window: int) -> Callable[[Sequence[ev.Event]], None]:
    """The step of an engine with wide bounds, each a millisecond after the one before."""
    config = EngineConfig(
        max_scopes=1_000_000,
        portfolio=PortfolioConfig(venues=(VENUE,)),
        limits=tuple(
            LimitConfig(name=kind, kind=kind, params=_wide(limit, window))
            for kind, limit in LIMITS.items()
        ),
    )
    engine = Engine(config)
    clock_ns = count(_START_NS, 1_000_000)

    def step(events: Sequence[ev.Event]) -> None:
        now_ns = next(clock_ns)
        engine.step(events, now_ns=now_ns, wall_ns=now_ns)

    step([ev.Start(epoch="bench")])
    return step


def _wide(limit: Any, window: dict[str, int]) -> Policy:
    """A limit's parameters with a bound that nothing here passes."""
    names = {field.name for field in fields(limit.Params)}
    wide: dict[str, Any] = {
        key: bound for key, bound in (("max", 1e9), ("min", 1e-9)) if key in names
    }
    if limit.kind == "latency_p99":
        wide |= window
    try:
        params: Policy = limit.Params(**wide)
    except ValueError:  # a bound that is a ratio
        params = limit.Params(**wide | {key: 0.99 for key in wide if key == "max"})
    return params


def _latency_us(window: int) -> float:
    step = _engine(window=window)
    batch = [ev.Latency(venue=VENUE, seconds=0.01 + 1e-5 * n) for n in range(BATCH)]
    for _ in range(window // BATCH + 2):
        step(batch)
    best_ns = min(_timed_ns(step, [batch] * 20) for _ in range(ROUNDS))
    return best_ns / (20 * BATCH) / 1e3


def _costs_us(symbols: int) -> dict[str, float]:
    step = _engine()
    names = [f"A{n}/USDT" for n in range(symbols)]
    step([ev.Price(symbol=name, price=100.0, venue=VENUE) for name in names])
    holdings = {f"A{n}": ev.Holding(1.0) for n in range(symbols)}
    step([ev.Balances(venue=VENUE, assets={"USDT": ev.Holding(1e6), **holdings})])
    ids = count()

    def fill(n: int) -> ev.Fill:
        side: ev.Side = "buy" if n // symbols % 2 == 0 else "sell"
        return ev.Fill(
            id=str(next(ids)),
            venue=VENUE,
            symbol=names[n * 7 % symbols],
            side=side,
            quantity=1.0,
            price=100.0,
        )

    step([fill(n) for n in range(symbols)])

    def balance(n: int) -> ev.Balance:
        return ev.Balance(venue=VENUE, asset=f"A{n * 7 % symbols}", free=1.0 + n % 3)

    def check(n: int) -> ev.Check:
        symbol = names[n * 7 % symbols]
        return ev.Check(venue=VENUE, symbol=symbol, side="buy", quantity=1.0, price=100.0)

    return {
        "fill": _one_by_one_us(step, fill),
        "balance": _one_by_one_us(step, balance),
        "check": _one_by_one_us(step, check),
    }


def _one_by_one_us(step: Callable[[Sequence[ev.Event]], None], make: Make) -> float:
    rounds = []
    for at in range(ROUNDS):
        batches = [[make(at * STEPS + n)] for n in range(STEPS)]
        rounds.append(_timed_ns(step, batches))
    return min(rounds) / STEPS / 1e3


def _timed_ns(
    step: Callable[[Sequence[ev.Event]], None], batches: Sequence[Sequence[ev.Event]]
) -> int:
    begun = perf_counter_ns()
    for batch in batches:
        step(batch)
    return perf_counter_ns() - begun


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:75} {figure}")
