"""The table of metrics: one row for each metric.

Times are exported as timestamps, never as ages: an age would stand still when the sidecar does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from riskmon.core.decisions import LEVEL_NAMES
from riskmon.core.events import Reported
from riskmon.metrics.readers import (
    balances,
    breaker_states,
    by_breaker,
    by_label,
    by_operation,
    differences,
    exposures,
    halted,
    leverage,
    limit_info,
    net_of_legs,
    oldest_unconfirmed,
    portfolio,
    quantiles,
    seconds,
    signed_notional,
    single,
    unconfirmed,
    unknown_limits,
    worst,
)
from riskmon.metrics.snapshot import Read

LIMIT = ("limit", "scope")
OPERATION = ("venue", "operation")
FREEZES = ("edge_collapse", "manual", "limit_violation")
CHECKS = ("allowed", "refused")
EVENTS = {kind: str(kind.__struct_config__.tag) for kind in get_args(Reported)}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric.

    ``read`` returns its series: the values of ``labels``, in their order, and the series' value.
    Every series has the label ``account`` too, which no row names.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Read
    at_once: int = 100  # series rendered before the event loop runs other callbacks


TABLE = (
    Row(
        "riskmon_build_info",
        "gauge",
        ("version",),
        "1; the running version is the label.",
        lambda now: [((now.version,), 1)],
    ),
    # -- limits and breakers
    Row(
        "riskmon_limit_value",
        "gauge",
        LIMIT,
        "What the limit measures, in the unit of its kind.",
        by_breaker(lambda b: b.value),
    ),
    Row(
        "riskmon_limit_bound",
        "gauge",
        LIMIT,
        "The bound on the value.",
        by_breaker(lambda b: b.bound),
    ),
    Row(
        "riskmon_limit_utilization_ratio",
        "gauge",
        LIMIT,
        "Value over bound (for a floor, bound over value), from 0 to 10; above 1 is a breach.",
        by_breaker(lambda b: b.utilization),
    ),
    Row(
        "riskmon_limit_warning_ratio",
        "gauge",
        LIMIT,
        "The utilization from which the limit warns.",
        by_breaker(lambda b: b.warning_ratio if b.bound else None),
    ),
    Row(
        "riskmon_limit_unknown",
        "gauge",
        LIMIT,
        "1 while the limit cannot be evaluated because data are missing, else 0.",
        unknown_limits,
    ),
    Row(
        "riskmon_limit_info",
        "gauge",
        (*LIMIT, "kind", "on_breach", "recovers", "written"),
        "1: the kind of the limit, what its breach does, who ends its trips, and whether the "
        "configuration names it.",
        limit_info,
    ),
    Row(
        "riskmon_limit_breaches_total",
        "counter",
        LIMIT,
        "Breaches of the limit; shadow limits count too.",
        by_breaker(lambda b: b.breaches_total),
    ),
    Row(
        "riskmon_breaker_state",
        "gauge",
        (*LIMIT, "state"),
        "1 for the state that the breaker is in, 0 for the others.",
        breaker_states,
    ),
    Row(
        "riskmon_breaker_trips_total",
        "counter",
        LIMIT,
        "Times that the breaker opened by itself.",
        by_breaker(lambda b: b.trips_total),
    ),
    Row(
        "riskmon_breaker_last_trip_timestamp_seconds",
        "gauge",
        LIMIT,
        "Time at which the breaker last opened by itself; absent before its first trip.",
        by_breaker(lambda b: seconds(b.last_trip_ns)),
    ),
    Row(
        "riskmon_breaker_until_timestamp_seconds",
        "gauge",
        LIMIT,
        "Time at which the wait of an open breaker ends, or that of a disabled one; absent "
        "without one.",
        by_breaker(lambda b: seconds(b.until_ns)),
    ),
    Row(
        "riskmon_freeze_triggered_total",
        "counter",
        ("reason",),
        "Freezes by cause.",
        by_label(lambda now: {**dict.fromkeys(FREEZES, 0), **now.view.freeze_total}),
    ),
    Row(
        "riskmon_freeze_active",
        "gauge",
        ("scope",),
        "1 while the scope is frozen, else 0.",
        by_label(lambda now: {**dict.fromkeys(now.view.levels, False), **now.view.freeze_active}),
    ),
    Row(
        "riskmon_gate_level",
        "gauge",
        ("scope",),
        "Level of the gate: 0 halt, 1 reduce_only, 2 probe, 3 allow.",
        by_label(lambda now: {s: LEVEL_NAMES.index(name) for s, name in now.view.levels.items()}),
    ),
    Row(
        "riskmon_halted",
        "gauge",
        (*LIMIT, "reason"),
        "1 while the limit keeps its scope below allow for this reason, else absent.",
        halted,
    ),
    # -- orders
    Row(
        "riskmon_orders_checked_total",
        "counter",
        ("result",),
        "Checked orders, by result.",
        by_label(lambda now: {**dict.fromkeys(CHECKS, 0), **now.view.orders_checked}),
    ),
    Row(
        "riskmon_orders_blocked_total",
        "counter",
        ("limit",),
        "Refused orders, by the limit that refused them.",
        by_label(lambda now: {b.limit: 0 for b in now.view.breakers} | now.view.orders_blocked),
    ),
    # -- exchanges
    Row(
        "riskmon_exchange_latency_seconds",
        "histogram",
        OPERATION,
        "Time from request to answer.",
        by_operation(lambda stats: stats.latency),
    ),
    Row(
        "riskmon_exchange_latency_window_seconds",
        "gauge",
        (*OPERATION, "quantile"),
        "Nearest-rank quantiles of the last 1000 latencies.",
        quantiles,
        at_once=30,  # the quantiles of one operation sort its window
    ),
    Row(
        "riskmon_exchange_errors_total",
        "counter",
        OPERATION,
        "Failed requests.",
        by_operation(lambda stats: stats.errors),
    ),
    Row(
        "riskmon_exchange_last_event_timestamp_seconds",
        "gauge",
        ("venue", "stream"),
        "Time at which the venue's last event of this type arrived.",
        lambda now: (((e.venue, e.stream), e.at_ns / 1e9) for e in now.view.last_events),
    ),
    # -- the portfolio; money in the reference currency
    Row(
        "riskmon_balance",
        "gauge",
        ("venue", "asset"),
        "Free and locked amount, in units of the asset; at most max_scopes of them.",
        balances,
    ),
    Row(
        "riskmon_equity",
        "gauge",
        (),
        "Equity in the reference currency.",
        portfolio(lambda p: p.equity),
    ),
    Row(
        "riskmon_pnl_realized",
        "gauge",
        (),
        "Realised P&L in the reference currency.",
        portfolio(lambda p: p.pnl_realized),
    ),
    Row(
        "riskmon_pnl_unrealized",
        "gauge",
        (),
        "Unrealised P&L in the reference currency.",
        portfolio(lambda p: p.pnl_unrealized),
    ),
    Row(
        "riskmon_pnl_day",
        "gauge",
        (),
        "P&L since the start of the trading day, net of cash flows.",
        portfolio(lambda p: p.pnl_day),
    ),
    Row(
        "riskmon_drawdown_ratio",
        "gauge",
        (),
        "Fall of the unit value from its peak, from 0 to 1.",
        portfolio(lambda p: p.drawdown_ratio),
    ),
    Row(
        "riskmon_pnl_strategy",
        "gauge",
        ("strategy",),
        "P&L of the strategy's own positions and `pnl`, in the reference currency.",
        lambda now: (((s.strategy,), s.pnl) for s in now.view.portfolio.strategies),
    ),
    Row(
        "riskmon_pnl_venue",
        "gauge",
        ("venue",),
        "P&L of the positions at the venue, less fees, in the reference currency.",
        lambda now: (((v.venue,), v.pnl) for v in now.view.portfolio.venues),
    ),
    Row(
        "riskmon_exposure_notional",
        "gauge",
        ("asset",),
        "Signed delta of the asset over all venues in the reference currency; at most max_scopes.",
        exposures,
    ),
    Row(
        "riskmon_exposure_worst_notional",
        "gauge",
        ("venue",),
        "Gross notional with the resting orders; without a venue, the account's.",
        worst,
    ),
    Row(
        "riskmon_leverage_ratio",
        "gauge",
        ("venue",),
        "Gross notional with the resting orders over equity; without a venue, the account's.",
        leverage,
    ),
    Row(
        "riskmon_position_quantity",
        "gauge",
        ("venue", "symbol"),
        "Signed quantity, in base units or contracts, net over legs.",
        net_of_legs(lambda position: position.quantity),
    ),
    Row(
        "riskmon_position_notional",
        "gauge",
        ("venue", "symbol"),
        "Notional in the reference currency, net over legs; absent without a price.",
        net_of_legs(signed_notional, absolute=True),
    ),
    Row(
        "riskmon_assets_unpriced",
        "gauge",
        (),
        "Held assets that have no price.",
        portfolio(lambda p: len(p.unpriced)),
    ),
    Row(
        "riskmon_reconciliation_differences_total",
        "counter",
        ("venue", "kind"),
        "Reports that differ from what was known of the venue, by kind.",
        differences,
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
        "Attempts to deliver a cancel, by result.",
        lambda now: now.counts.deliveries.items(),
    ),
    Row(
        "riskmon_cancel_duration_seconds",
        "histogram",
        ("target",),
        "Time from sending a cancel to the answer with which its target accepts it.",
        lambda now: (((target,), took) for target, took in now.counts.cancels.items()),
    ),
    Row(
        "riskmon_cancel_pending",
        "gauge",
        ("target",),
        "Cancels that the target has not accepted yet.",
        by_label(lambda now: {target: count for target, (count, _) in now.pending.items()}),
    ),
    Row(
        "riskmon_cancel_oldest_pending_timestamp_seconds",
        "gauge",
        ("target",),
        "Time at which the target's oldest pending cancel was created; absent without one.",
        lambda now: (((t,), seconds(since_ns)) for t, (_, since_ns) in now.pending.items()),
    ),
    Row(
        "riskmon_cancel_unconfirmed",
        "gauge",
        ("target",),
        "Incidents for which the target has not confirmed that no order rests.",
        by_label(unconfirmed),
    ),
    Row(
        "riskmon_cancel_oldest_unconfirmed_timestamp_seconds",
        "gauge",
        ("target",),
        "Time of the oldest incident whose cancel the target has not confirmed; absent without "
        "one.",
        oldest_unconfirmed,
    ),
    # -- the sidecar itself
    Row(
        "riskmon_scopes",
        "gauge",
        (),
        "Scopes that are registered; frozen ones may be beyond max_scopes.",
        single(lambda now: len(now.view.levels)),
    ),
    Row(
        "riskmon_scopes_max",
        "gauge",
        (),
        "Scopes that events may register: max_scopes.",
        single(lambda now: now.max_scopes),
    ),
    Row(
        "riskmon_breach_to_gate_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the shut gate.",
        single(lambda now: now.counts.gate_delays),
    ),
    Row(
        "riskmon_breach_to_cancel_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the first cancel attempt.",
        single(lambda now: now.counts.cancel_delays),
    ),
    Row(
        "riskmon_events_total",
        "counter",
        ("type",),
        "Accepted events, including duplicates.",
        lambda now: (((name,), now.counts.events[kind]) for kind, name in EVENTS.items()),
    ),
    Row(
        "riskmon_events_rejected_total",
        "counter",
        ("reason",),
        "Refused requests with events; with reason `member`, dropped members of accepted ones.",
        by_label(lambda now: now.counts.rejections),
    ),
    Row(
        "riskmon_operations_refused_total",
        "counter",
        ("reason",),
        "Operators' calls that were refused.",
        by_label(lambda now: now.counts.refusals),
    ),
    Row(
        "riskmon_accept_pauses_total",
        "counter",
        (),
        "Pauses of one second in accepting connections, because no descriptor was free.",
        single(lambda now: now.counts.accept_pauses),
    ),
    Row(
        "riskmon_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "Time at which the last turn of the sequencer ended.",
        single(lambda now: seconds(now.counts.last_cycle_ns)),
    ),
    Row(
        "riskmon_cycle_duration_seconds",
        "histogram",
        (),
        "Duration of one turn of the sequencer.",
        single(lambda now: now.counts.cycles),
    ),
    Row(
        "riskmon_journal_commit_duration_seconds",
        "histogram",
        (),
        "Duration of one commit of the journal.",
        single(lambda now: now.counts.commits),
    ),
    Row(
        "riskmon_config_last_reload_successful",
        "gauge",
        (),
        "1 if the last reload of the configuration succeeded, else 0.",
        single(lambda now: now.counts.reloaded),
    ),
    Row(
        "riskmon_log_dropped_total",
        "counter",
        (),
        "Log lines dropped because standard error was not read fast enough.",
        single(lambda now: now.log_dropped),
    ),
    Row(
        "riskmon_gate_rewrites_total",
        "counter",
        (),
        "Times that the gate file was recreated because it was lost, replaced or damaged.",
        single(lambda now: now.counts.gate_rewrites),
    ),
)
