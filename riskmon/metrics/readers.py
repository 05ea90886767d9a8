"""What the rows of the table read from a snapshot: the series of one metric each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from math import copysign
from typing import get_args

from riskmon.core.decisions import DifferenceKind, StateName
from riskmon.core.portfolio_view import PortfolioView, PositionView
from riskmon.core.scopes import Scope, kind_of, name_of
from riskmon.core.view import BreakerView
from riskmon.metrics.recorder import OperationStats
from riskmon.metrics.snapshot import Read, Series, Snapshot, Value

# -- readers of one kind of series ---------------------------------------------------------------


def single(read: Callable[[Snapshot], Value]) -> Read:
    """Return the reader of one series without labels."""
    return lambda now: [((), read(now))]


def by_label(read: Callable[[Snapshot], Mapping[str, float]]) -> Read:
    """Return the reader of a series for each value of one label."""
    return lambda now: (((label,), value) for label, value in read(now).items())


def by_breaker(read: Callable[[BreakerView], float | None]) -> Read:
    """Return the reader of a series for each (limit, scope)."""
    return lambda now: (((b.limit, b.scope), read(b)) for b in now.view.breakers)


def net_of_legs(read: Callable[[PositionView], float | None], *, absolute: bool = False) -> Read:
    """Return the reader of a series for each venue and symbol: in hedge mode the sum of two."""

    def series(now: Snapshot) -> Series:
        sums: dict[tuple[str, ...], float | None] = {}
        for position in now.view.portfolio.positions:
            pair, value = (position.venue, position.symbol), read(position)
            before = sums.get(pair, 0.0)
            sums[pair] = None if value is None or before is None else before + value
        return (
            (pair, abs(net) if absolute and net is not None else net) for pair, net in sums.items()
        )

    return series


def signed_notional(position: PositionView) -> float | None:
    """Return a notional below 0 for a short position."""
    return None if position.notional is None else copysign(position.notional, position.quantity)


def by_operation(read: Callable[[OperationStats], Value]) -> Read:
    """Return the reader of a series for each venue and operation."""
    return lambda now: ((pair, read(stats)) for pair, stats in now.counts.operations.items())


def portfolio(read: Callable[[PortfolioView], float | None]) -> Read:
    """Return the reader of one figure of the account."""
    return single(lambda now: read(now.view.portfolio))


def seconds(wall_ns: int | None) -> float | None:
    """Return a time in seconds."""
    return None if wall_ns is None else wall_ns / 1e9


# -- readers of one metric -----------------------------------------------------------------------


def breaker_states(now: Snapshot) -> Series:
    """Return 1 for the state of each breaker, 0 for its other states."""
    for breaker in now.view.breakers:
        for state in get_args(StateName):
            yield (breaker.limit, breaker.scope, state), breaker.state == state


def limit_info(now: Snapshot) -> Series:
    """Return the constant properties of each limit."""
    return {
        (b.limit, b.scope, b.kind, b.on_breach, b.recovers, str(b.written).lower()): 1
        for b in now.view.breakers
    }.items()


def halted(now: Snapshot) -> Series:
    """Return why each scope is held below allow."""
    halted = {(b.limit, b.scope, b.holds): 1 for b in now.view.breakers if b.holds is not None}
    if now.view.withheld is not None:
        reason = now.view.withheld.reason
        halted[reason, "account", reason] = 1
    return halted.items()


def unknown_limits(now: Snapshot) -> Series:
    """Return which limits cannot be evaluated."""
    bounded = {(b.limit, b.scope): b.unknown is not None for b in now.view.breakers if b.bound}
    return {**bounded, **{(u.limit, u.scope): True for u in now.view.unknown}}.items()


def quantiles(now: Snapshot) -> Series:
    """Return the quantiles of each latency window."""
    for pair, stats in now.counts.operations.items():
        for quantile, seconds in stats.quantiles():
            yield (*pair, quantile), seconds


def balances(now: Snapshot) -> Series:
    """Return the amount of each asset at each venue."""
    # Amounts of different assets cannot be summed under the label `other`.
    bounded = islice(now.view.portfolio.balances, now.max_scopes)
    return (((b.venue, b.asset), b.free + b.locked) for b in bounded)


def leverage(now: Snapshot) -> Series:
    """Return the leverage of the account and of each venue."""
    yield ("",), now.view.portfolio.leverage
    for venue in now.view.portfolio.venues:
        yield (venue.venue,), venue.leverage


def worst(now: Snapshot) -> Series:
    """Return the exposure with resting orders, of the account and of each venue."""
    yield ("",), now.view.portfolio.exposure_worst
    for venue in now.view.portfolio.venues:
        yield (venue.venue,), venue.exposure_worst


def exposures(now: Snapshot) -> Series:
    """Return the notional of each asset."""
    bounded = islice(now.view.portfolio.assets, now.max_scopes)
    return (((one.asset,), one.notional) for one in bounded)


def differences(now: Snapshot) -> Series:
    """Return how often reports differed, by venue and kind."""
    scopes = map(Scope, now.view.levels)
    venues = [name_of(scope) for scope in scopes if kind_of(scope) == "venue"]
    counts = {(venue, kind): 0 for venue in venues for kind in get_args(DifferenceKind)}
    for one in now.view.portfolio.differences:
        counts[one.venue, one.kind] = one.count
    return counts.items()


def unconfirmed(now: Snapshot) -> dict[str, int]:
    """Return how many cancels each target has not confirmed."""
    unconfirmed = Counter(dict.fromkeys(now.pending, 0))
    for cancel in now.view.cancel:
        if not cancel.confirmed:
            targets = cancel.targets.items()
            unconfirmed.update(name for name, state in targets if state != "confirmed")
    return unconfirmed


def oldest_unconfirmed(now: Snapshot) -> Series:
    """Return for each target when the oldest incident began whose cancel it has not confirmed."""
    oldest: dict[str, int] = {}
    for cancel in now.view.cancel:
        if not cancel.confirmed:
            for name, state in cancel.targets.items():
                if state != "confirmed":
                    oldest[name] = min(cancel.since_ns, oldest.get(name, cancel.since_ns))
    return (((name,), seconds(since_ns)) for name, since_ns in oldest.items())
