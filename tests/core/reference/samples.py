"""What was heard, and the values that follow from it, each computed from the whole list.

A sampled limit (latency, errors, losing closes, volatility) sees the events from ``forgot`` on:
the number of events that had been heard when its breaker last loosened. The others look at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import log, sqrt
from statistics import stdev
from typing import Any

from riskmon.core import events as ev
from riskmon.core.config import LimitConfig

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
SAMPLED = ("latency_p99", "error_streak", "error_rate", "loss_streak", "volatility")
STANDING = ("edge", "staleness", "heartbeat")
SILENCE = ("staleness", "heartbeat")
LATENCY_AGE_NS = 10 * SECOND_NS  # what happened longer ago says nothing of now


@dataclass(frozen=True)
class Heard:
    """An event and when it came; ``counts`` is false for a duplicate and for what came too late."""

    now_ns: int
    event: Any
    counts: bool = True


History = Sequence[Heard]


def name_of(scope: str) -> str:
    """``venue:kraken`` is kraken; the account has no name."""
    return scope.partition(":")[2]


def scopes_of(event: Any) -> list[str]:
    """The scopes that an event names, the account with any of them."""
    named = [
        f"{kind}:{name}"
        for kind in ("venue", "symbol", "strategy")
        if (name := getattr(event, kind, None))
    ]
    anything = named or isinstance(event, ev.Edge | ev.Pnl)
    return ["account", *named] if anything else []


def to_ns(seconds: float) -> int:
    """A duration of the configuration."""
    return round(seconds * SECOND_NS)


# -- requests: latencies and errors ---------------------------------------------------------------


def is_probe_only(event: Any) -> bool:
    """A request that was sent to see whether the venue answers again: no window holds it."""
    return isinstance(event, ev.Latency | ev.Error) and event.operation == "probe"


def concerns(limit: LimitConfig, scope: str, event: Any) -> bool:
    """Whether an event is about what a limit measures over a scope."""
    if limit.kind == "volatility":
        return isinstance(event, ev.Price | ev.Fill) and event.symbol == name_of(scope)
    if limit.kind == "loss_streak":
        return isinstance(event, ev.Pnl | ev.Fill) and event.strategy == name_of(scope)
    wanted: tuple[type[Any], ...] = (ev.Latency, ev.Error)
    if limit.kind == "error_streak":
        wanted = (ev.Latency, ev.Error, ev.Fill)
    return isinstance(event, wanted) and scope in ("account", "venue:" + event.venue)


def is_of_operation(limit: LimitConfig, event: Any, *more: str) -> bool:
    """Whether a request is of the operation that a limit looks at (or of one ``more``)."""
    only = limit.params.operation  # type: ignore[attr-defined]
    return isinstance(event, ev.Fill) or only is None or event.operation in (only, *more)


def is_error(limit: LimitConfig, event: Any) -> bool:
    """Whether a request failed, or took so long that it counts as failed."""
    slow = limit.params.slow  # type: ignore[attr-defined]
    return isinstance(event, ev.Error) or (slow is not None and event.seconds > slow)


def requests(limit: LimitConfig, scope: str, heard: History, forgot: int) -> list[Heard]:
    """The latencies, errors and fills that a limit has seen, oldest first."""
    return [
        one
        for one in heard[forgot:]
        if one.counts
        and concerns(limit, scope, one.event)
        and not is_probe_only(one.event)
        and is_of_operation(limit, one.event)
    ]


def p99(limit: LimitConfig, scope: str, heard: History, forgot: int, now_ns: int) -> float | None:
    """Sort the window; the smallest that at least 99 % of the samples do not exceed."""
    params: Any = limit.params
    all_of_it = [
        one
        for one in requests(limit, scope, heard, forgot)
        if one.event.seconds is not None  # an error need not say how long it took
    ]
    if params.seconds is not None:
        window = [one for one in all_of_it if now_ns - one.now_ns <= to_ns(params.seconds)]
    else:
        window = all_of_it[-params.window :]
    ordered = sorted(one.event.seconds for one in window)
    if len(ordered) < params.min_samples:
        return None
    for rank, seconds in enumerate(ordered, start=1):
        if 100 * rank >= 99 * len(ordered):
            return float(seconds)
    raise AssertionError("there is always a rank of 99 %")


def error_streak(limit: LimitConfig, scope: str, heard: History, forgot: int) -> float:
    """For each operation count backwards to its last success or to the last fill."""
    seen = [one.event for one in requests(limit, scope, heard, forgot)]
    longest = 0
    for operation in {event.operation for event in seen if not isinstance(event, ev.Fill)}:
        run = 0
        for event in reversed(seen):
            if isinstance(event, ev.Fill):
                break
            if event.operation != operation:
                continue
            if not is_error(limit, event):
                break
            run += 1
        longest = max(longest, run)
    return float(longest)


def error_rate(limit: LimitConfig, scope: str, heard: History, forgot: int) -> float | None:
    """Errors over requests in the window."""
    params: Any = limit.params
    window = requests(limit, scope, heard, forgot)[-params.window :]
    if len(window) < params.min_samples:
        return None
    return sum(is_error(limit, one.event) for one in window) / len(window)


# -- closes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Closed:
    """A strategy realised something: by the event with this ``number`` in the list."""

    number: int
    strategy: str
    pnl: Fraction
    order: tuple[str, str] | None = None  # the venue and the id of the order that a fill is of
    before: Fraction | None = None  # what the same order closed just before it


def closes(heard: History) -> list[Closed]:
    """All closes: each `pnl`, and each fill that makes a strategy's position smaller.

    Positions at average cost; the symbols of the stories are linear, of size 1 and quoted in the
    reference.
    """
    held: dict[tuple[str, str, str], tuple[Fraction, Fraction]] = {}  # -> quantity, entry
    found = []
    for number, one in enumerate(heard):
        event = one.event
        if not one.counts or getattr(event, "strategy", None) is None:
            continue
        if isinstance(event, ev.Pnl):
            found.append(Closed(number, event.strategy or "", Fraction(event.amount)))
        elif isinstance(event, ev.Fill):
            key = (event.venue, event.symbol, event.strategy or "")
            quantity, entry = held.get(key, (Fraction(0), Fraction(0)))
            moved = Fraction(event.quantity) * (1 if event.side == "buy" else -1)
            at = Fraction(event.price)
            after = quantity + moved
            if quantity * moved < 0:
                closed = min(abs(quantity), abs(moved)) * (1 if quantity > 0 else -1)
                pnl = closed * (at - entry) - Fraction(event.fee)
                order = (event.venue, event.order_id) if event.order_id else None
                found.append(Closed(number, event.strategy or "", pnl, order))
                held[key] = (after, at if after * quantity < 0 else entry)
            else:
                held[key] = (after, (quantity * entry + moved * at) / after)
    return found


def exits(scope: str, heard: History, forgot: int) -> list[list[Closed]]:
    """The closes of a strategy; those in a row that are of one order stand together."""
    found: list[list[Closed]] = []
    for close in closes(heard):
        if close.number < forgot or close.strategy != name_of(scope):
            continue
        if found and close.order is not None and found[-1][-1].order == close.order:
            found[-1].append(close)
        else:
            found.append([close])
    return found


def close_of(scope: str, heard: History, forgot: int) -> Closed | None:
    """What the latest event closed of a strategy, if it did."""
    found = exits(scope, heard, forgot)
    if not found or found[-1][-1].number != len(heard) - 1:
        return None
    *earlier, last = found[-1]
    before = sum((one.pnl for one in earlier), Fraction(0)) if earlier else None
    return replace(last, before=before)


def loss_streak(scope: str, heard: History, forgot: int) -> float:
    """Losing exits in a row, counted backwards."""
    run = 0
    for parts in reversed(exits(scope, heard, forgot)):
        if sum(close.pnl for close in parts) >= 0:
            break
        run += 1
    return float(run)


# -- volatility -----------------------------------------------------------------------------------


def sources(limit: LimitConfig, scope: str, heard: History) -> dict[str, list[Heard]]:
    """The prices of a symbol by who said them."""
    found: dict[str, list[Heard]] = {}
    for one in heard:
        if one.counts and concerns(limit, scope, one.event):
            found.setdefault(one.event.venue or "", []).append(one)
    return found


def returns(limit: LimitConfig, prices: list[Heard], now_ns: int) -> list[float]:
    """One-minute returns of a source over the window: the last price of each minute counts."""
    this = now_ns // MINUTE_NS
    begins = this - 1 - limit.params.window  # type: ignore[attr-defined]
    last = {one.now_ns // MINUTE_NS: float(one.event.price) for one in prices}
    minutes = [minute for minute in sorted(last) if begins <= minute < this]
    return [
        log(last[after] / last[before]) / sqrt(after - before)
        for before, after in pairwise(minutes)
    ]


def remembered(heard: History, prices: list[Heard], forgot: int) -> list[Heard]:
    """What a source knows still: its last price before it forgot, and all that came since."""
    before = [one for one in prices if any(one is other for other in heard[:forgot])]
    return before[-1:] + prices[len(before) :]


def volatility(
    limit: LimitConfig, scope: str, heard: History, forgot: int, now_ns: int
) -> float | None:
    """The standard deviation of the most restless source."""
    found = []
    for prices in sources(limit, scope, heard).values():
        each = returns(limit, remembered(heard, prices, forgot), now_ns)
        if len(each) >= limit.params.min_samples:  # type: ignore[attr-defined]
            found.append(stdev(each))
    return max(found, default=None)


def ended_minute(
    limit: LimitConfig, scope: str, heard: History, forgot: int
) -> tuple[bool, float | None]:
    """Whether the latest event is its source's first price of a minute, and the return that so
    came to its end."""
    latest = heard[-1]
    prices = sources(limit, scope, heard)[latest.event.venue or ""]
    this = latest.now_ns // MINUTE_NS
    if len(prices) < 2 or prices[-2].now_ns // MINUTE_NS == this:
        return False, None
    each = returns(limit, remembered(heard, prices, forgot), latest.now_ns)
    return True, each[-1] if each else None


# -- what has a value at any time -----------------------------------------------------------------


def edge(scope: str, heard: History, now_ns: int, max_age_ns: int) -> float | str:
    """The last edge, or that there is none or that it is old."""
    for one in reversed(heard):
        if isinstance(one.event, ev.Edge) and (one.event.strategy or "") == name_of(scope):
            return float(one.event.bps) if now_ns - one.now_ns <= max_age_ns else "old"
    return "never reported"


def staleness(
    limit: LimitConfig, scope: str, heard: History, now_ns: int, started_ns: int
) -> float | None:
    """Seconds since the venue's last event of the limit's streams."""
    venue = name_of(scope)
    of_venue = [one for one in heard if getattr(one.event, "venue", None) == venue]
    if not of_venue:
        return None
    streams = limit.params.streams  # type: ignore[attr-defined]
    wanted = [one for one in of_venue if not streams or stream_of(one.event) in streams]
    since_ns = wanted[-1].now_ns if wanted else of_venue[0].now_ns
    return (now_ns - max(since_ns, started_ns)) / SECOND_NS


def stream_of(event: Any) -> str:
    """The type of an event, as it is written."""
    return str(event.__struct_config__.tag)


def heartbeat(scope: str, heard: History, now_ns: int, started_ns: int) -> float | None:
    """Seconds since the strategy's last heartbeat; nothing after its final one."""
    for one in reversed(heard):
        if isinstance(one.event, ev.Heartbeat) and one.event.strategy == name_of(scope):
            since_ns = max(one.now_ns, started_ns)
            return None if one.event.final else (now_ns - since_ns) / SECOND_NS
    return None


# -- one door -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """All that was heard, by whom it is asked for, and when."""

    scope: str
    heard: History
    forgot: int
    now_ns: int
    started_ns: int  # of the last start: nobody is silent for longer


def value_of(limit: LimitConfig, seen: Seen, edge_age_ns: int) -> float | str | None:
    """What a limit measures now: a text when it is unknown, None when there is nothing."""
    scope, heard, forgot, now_ns = seen.scope, seen.heard, seen.forgot, seen.now_ns
    match limit.kind:
        case "latency_p99":
            return p99(limit, scope, heard, forgot, now_ns)
        case "error_streak":
            return error_streak(limit, scope, heard, forgot)
        case "error_rate":
            return error_rate(limit, scope, heard, forgot)
        case "loss_streak":
            return loss_streak(scope, heard, forgot)
        case "volatility":
            return volatility(limit, scope, heard, forgot, now_ns)
        case "edge":
            return edge(scope, heard, now_ns, edge_age_ns)
        case "staleness":
            return staleness(limit, scope, heard, now_ns, seen.started_ns)
        case "heartbeat":
            return heartbeat(scope, heard, now_ns, seen.started_ns)
    raise AssertionError(f"no reference for {limit.kind}")
