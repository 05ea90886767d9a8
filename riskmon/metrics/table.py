"""The table of metrics. One row is one metric: what it is called, says and is read from.

Times are exported as timestamps, never as ages: an age would stand still when the sidecar does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from riskmon.core.decisions import LEVEL_NAMES, BreakerState
from riskmon.core.events import Reported
from riskmon.core.view import BreakerView, PortfolioView
from riskmon.metrics.recorder import Exchange
from riskmon.metrics.snapshot import Read, Series, Snapshot, Value

OF_LIMIT = ("limit", "scope")
OF_EXCHANGE = ("venue", "operation")
FREEZES = ("edge_collapse", "manual", "limit_violation")
CHECKS = ("allowed", "refused")
EVENTS = {kind: str(kind.__struct_config__.tag) for kind in get_args(Reported)}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. ``read`` gives the values of ``labels``, in order, with the series' value.

    ``account`` stands before the labels of every row.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Read
    at_once: int = 100  # series rendered before the loop has its turn


def _one(read: Callable[[Snapshot], Value]) -> Read:
    return lambda now: [((), read(now))]


def _of_portfolio(read: Callable[[PortfolioView], float | None]) -> Read:
    return _one(lambda now: read(now.view.portfolio))


def _of_breakers(read: Callable[[BreakerView], float | None]) -> Read:
    return lambda now: (((b.limit, b.scope), read(b)) for b in now.view.breakers)


def _of_exchanges(read: Callable[[Exchange], Value]) -> Read:
    return lambda now: ((pair, read(one)) for pair, one in now.counts.exchanges.items())


def _by(read: Callable[[Snapshot], Mapping[str, float]]) -> Read:
    return lambda now: (((label,), value) for label, value in read(now).items())


def _seconds(wall_ns: int | None) -> float | None:
    return None if wall_ns is None else wall_ns / 1e9


def _states(now: Snapshot) -> Series:
    for b in now.view.breakers:
        for state in get_args(BreakerState):
            yield (b.limit, b.scope, state), b.state == state


def _halted(now: Snapshot) -> Series:
    halted = {(b.limit, b.scope, b.holds): 1 for b in now.view.breakers if b.holds is not None}
    if now.view.withheld is not None:
        reason = now.view.withheld.reason
        halted[reason, "account", reason] = 1
    return halted.items()


def _unknown(now: Snapshot) -> Series:
    known = {(b.limit, b.scope): b.unknown is not None for b in now.view.breakers if b.bound}
    return {**known, **{(u.limit, u.scope): True for u in now.view.unknown}}.items()


def _quantiles(now: Snapshot) -> Series:
    for pair, exchange in now.counts.exchanges.items():
        for quantile, seconds in exchange.quantiles():
            yield (*pair, quantile), seconds


def _balances(now: Snapshot) -> Series:
    # Amounts of different assets have no sum that could stand under `other`.
    bounded = islice(now.view.portfolio.balances, now.max_scopes)
    return (((b.venue, b.asset), b.free + b.locked) for b in bounded)


def _unconfirmed(now: Snapshot) -> dict[str, int]:
    rest = Counter(dict.fromkeys(now.pending, 0))
    for cancel in now.view.cancel:
        if not cancel.confirmed:
            rest.update(name for name, state in cancel.targets.items() if state != "confirmed")
    return rest


TABLE = (
    Row(
        "riskmon_build_info",
        "gauge",
        ("version",),
        "1; the version that runs.",
        lambda now: [((now.version,), 1)],
    ),
    # -- limits and breakers
    Row(
        "riskmon_limit_value",
        "gauge",
        OF_LIMIT,
        "What the limit measures, in the unit of its kind.",
        _of_breakers(lambda b: b.value),
    ),
    Row(
        "riskmon_limit_bound",
        "gauge",
        OF_LIMIT,
        "The bound on the value.",
        _of_breakers(lambda b: b.bound),
    ),
    Row(
        "riskmon_limit_utilization_ratio",
        "gauge",
        OF_LIMIT,
        "Value over bound (for a floor, bound over value), from 0 to 10; above 1 is a breach.",
        _of_breakers(lambda b: b.utilization),
    ),
    Row(
        "riskmon_limit_warning_ratio",
        "gauge",
        OF_LIMIT,
        "The utilization from which the limit warns.",
        _of_breakers(lambda b: b.warning_ratio if b.bound else None),
    ),
    Row(
        "riskmon_limit_unknown",
        "gauge",
        OF_LIMIT,
        "1 while the limit cannot be evaluated for want of data, else 0.",
        _unknown,
    ),
    Row(
        "riskmon_limit_breaches_total",
        "counter",
        OF_LIMIT,
        "Breaches of the limit, those of shadow limits too.",
        _of_breakers(lambda b: b.breaches_total),
    ),
    Row(
        "riskmon_breaker_state",
        "gauge",
        (*OF_LIMIT, "state"),
        "1 for the state that the breaker is in, 0 for the others.",
        _states,
    ),
    Row(
        "riskmon_breaker_trips_total",
        "counter",
        OF_LIMIT,
        "How often the breaker opened by itself.",
        _of_breakers(lambda b: b.trips_total),
    ),
    Row(
        "riskmon_breaker_last_trip_timestamp_seconds",
        "gauge",
        OF_LIMIT,
        "When the breaker last opened by itself; absent before its first trip.",
        _of_breakers(lambda b: _seconds(b.last_trip_ns)),
    ),
    Row(
        "riskmon_freeze_triggered_total",
        "counter",
        ("reason",),
        "Freezes by what caused them.",
        _by(lambda now: {**dict.fromkeys(FREEZES, 0), **now.view.freeze_total}),
    ),
    Row(
        "riskmon_freeze_active",
        "gauge",
        ("scope",),
        "1 while the scope is frozen, else 0.",
        _by(lambda now: {**dict.fromkeys(now.view.levels, False), **now.view.freeze_active}),
    ),
    Row(
        "riskmon_gate_level",
        "gauge",
        ("scope",),
        "What the gate allows: 0 halt, 1 reduce_only, 2 probe, 3 allow.",
        _by(lambda now: {s: LEVEL_NAMES.index(name) for s, name in now.view.levels.items()}),
    ),
    Row(
        "riskmon_halted",
        "gauge",
        (*OF_LIMIT, "reason"),
        "1 while the limit holds its scope below allow, for this reason; else absent.",
        _halted,
    ),
    # -- orders
    Row(
        "riskmon_orders_checked_total",
        "counter",
        ("result",),
        "Orders checked before they were sent, by the answer.",
        _by(lambda now: {**dict.fromkeys(CHECKS, 0), **now.view.orders_checked}),
    ),
    Row(
        "riskmon_orders_blocked_total",
        "counter",
        ("limit",),
        "Orders refused, by the limit that refused them.",
        _by(lambda now: {b.limit: 0 for b in now.view.breakers} | now.view.orders_blocked),
    ),
    # -- exchanges
    Row(
        "riskmon_exchange_latency_seconds",
        "histogram",
        OF_EXCHANGE,
        "Time from request to answer.",
        _of_exchanges(lambda one: one.latency),
    ),
    Row(
        "riskmon_exchange_latency_window_seconds",
        "gauge",
        (*OF_EXCHANGE, "quantile"),
        "Nearest-rank quantiles of the last 1000 latencies.",
        _quantiles,
        at_once=30,  # each third one sorts a window
    ),
    Row(
        "riskmon_exchange_errors_total",
        "counter",
        OF_EXCHANGE,
        "Requests that failed.",
        _of_exchanges(lambda one: one.errors),
    ),
    Row(
        "riskmon_exchange_last_event_timestamp_seconds",
        "gauge",
        ("venue", "stream"),
        "When the venue's last event of this type came.",
        lambda now: (((e.venue, e.stream), e.at_ns / 1e9) for e in now.view.last_events),
    ),
    # -- the portfolio, money in the reference currency
    Row(
        "riskmon_balance",
        "gauge",
        ("venue", "asset"),
        "Free and locked amount, in units of the asset; at most max_scopes of them.",
        _balances,
    ),
    Row(
        "riskmon_equity",
        "gauge",
        (),
        "Equity in the reference currency.",
        _of_portfolio(lambda p: p.equity),
    ),
    Row(
        "riskmon_pnl_realized",
        "gauge",
        (),
        "Realised P&L in the reference currency.",
        _of_portfolio(lambda p: p.pnl_realized),
    ),
    Row(
        "riskmon_pnl_unrealized",
        "gauge",
        (),
        "Unrealised P&L in the reference currency.",
        _of_portfolio(lambda p: p.pnl_unrealized),
    ),
    Row(
        "riskmon_pnl_day",
        "gauge",
        (),
        "P&L since the start of the trading day, net of cash flows.",
        _of_portfolio(lambda p: p.pnl_day),
    ),
    Row(
        "riskmon_drawdown_ratio",
        "gauge",
        (),
        "Fall of the unit value from its peak, from 0 to 1.",
        _of_portfolio(lambda p: p.drawdown_ratio),
    ),
    Row(
        "riskmon_position_quantity",
        "gauge",
        ("venue", "symbol"),
        "Signed quantity, in base units or contracts.",
        lambda now: (((p.venue, p.symbol), p.quantity) for p in now.view.portfolio.positions),
    ),
    Row(
        "riskmon_position_notional",
        "gauge",
        ("venue", "symbol"),
        "Notional in the reference currency; absent without a price.",
        lambda now: (((p.venue, p.symbol), p.notional) for p in now.view.portfolio.positions),
    ),
    Row(
        "riskmon_assets_unpriced",
        "gauge",
        (),
        "Assets held for which there is no price.",
        _of_portfolio(lambda p: len(p.unpriced)),
    ),
    Row(
        "riskmon_edge_bps",
        "gauge",
        ("strategy",),
        "The last expected edge in basis points; without a strategy, the account's.",
        lambda now: (((e.strategy,), e.bps) for e in now.view.edges),
    ),
    # -- cancels
    Row(
        "riskmon_cancel_deliveries_total",
        "counter",
        ("target", "result"),
        "Attempts to deliver a cancel, by what they came to.",
        lambda now: now.counts.deliveries.items(),
    ),
    Row(
        "riskmon_cancel_duration_seconds",
        "histogram",
        ("target",),
        "Time from the sending of a cancel to the answer by which its target took it.",
        lambda now: (((target,), took) for target, took in now.counts.cancels.items()),
    ),
    Row(
        "riskmon_cancel_pending",
        "gauge",
        ("target",),
        "Cancels that the target has not taken yet.",
        _by(lambda now: {target: count for target, (count, _) in now.pending.items()}),
    ),
    Row(
        "riskmon_cancel_oldest_pending_timestamp_seconds",
        "gauge",
        ("target",),
        "When the oldest of the target's pending cancels was made; absent without one.",
        lambda now: (((t,), _seconds(since_ns)) for t, (_, since_ns) in now.pending.items()),
    ),
    Row(
        "riskmon_cancel_unconfirmed",
        "gauge",
        ("target",),
        "Incidents of which the target has not confirmed that no order rests any more.",
        _by(_unconfirmed),
    ),
    # -- the sidecar itself
    Row(
        "riskmon_breach_to_gate_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the shut gate.",
        _one(lambda now: now.counts.gate_delays),
    ),
    Row(
        "riskmon_breach_to_cancel_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the first cancel attempt.",
        _one(lambda now: now.counts.cancel_delays),
    ),
    Row(
        "riskmon_events_total",
        "counter",
        ("type",),
        "Accepted events, duplicates too.",
        lambda now: (((name,), now.counts.events[kind]) for kind, name in EVENTS.items()),
    ),
    Row(
        "riskmon_events_rejected_total",
        "counter",
        ("reason",),
        "Refused requests with events.",
        _by(lambda now: now.counts.rejections),
    ),
    Row(
        "riskmon_operations_refused_total",
        "counter",
        ("reason",),
        "Refused operators' calls.",
        _by(lambda now: now.counts.refusals),
    ),
    Row(
        "riskmon_accept_pauses_total",
        "counter",
        (),
        "How often accepting connections paused for a second, because no descriptor was left.",
        _one(lambda now: now.counts.accept_pauses),
    ),
    Row(
        "riskmon_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "When the loop last turned.",
        _one(lambda now: _seconds(now.counts.last_cycle_ns)),
    ),
    Row(
        "riskmon_cycle_duration_seconds",
        "histogram",
        (),
        "Time of one turn of the loop.",
        _one(lambda now: now.counts.cycles),
    ),
    Row(
        "riskmon_journal_commit_duration_seconds",
        "histogram",
        (),
        "Time of one commit of the journal.",
        _one(lambda now: now.counts.commits),
    ),
    Row(
        "riskmon_config_last_reload_successful",
        "gauge",
        (),
        "1 if the last reload of the configuration was taken, else 0.",
        _one(lambda now: now.counts.reloaded),
    ),
    Row(
        "riskmon_log_dropped_total",
        "counter",
        (),
        "Log lines that were dropped because standard error was not read fast enough.",
        _one(lambda now: now.log_dropped),
    ),
    Row(
        "riskmon_gate_rewrites_total",
        "counter",
        (),
        "Times that the gate's file was made anew because it was lost, replaced or damaged.",
        _one(lambda now: now.counts.gate_rewrites),
    ),
)
