"""The table of metrics: one row for each metric.

Times are exported as timestamps, never as ages: an age would stand still when the sidecar does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from math import copysign
from typing import Literal, get_args

from riskmon.core.decisions import LEVEL_NAMES, DifferenceKind, StateName
from riskmon.core.events import Reported
from riskmon.core.portfolio_view import PortfolioView, PositionView
from riskmon.core.scopes import Scope, kind_of, name_of
from riskmon.core.view import BreakerView
from riskmon.metrics.recorder import OperationStats
from riskmon.metrics.snapshot import Read, Series, Snapshot, Value

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


# -- readers of one kind of series ---------------------------------------------------------------


def _single(read: Callable[[Snapshot], Value]) -> Read:
    return lambda now: [((), read(now))]


def _by_label(read: Callable[[Snapshot], Mapping[str, float]]) -> Read:
    return lambda now: (((label,), value) for label, value in read(now).items())


def _by_breaker(read: Callable[[BreakerView], float | None]) -> Read:
    return lambda now: (((b.limit, b.scope), read(b)) for b in now.view.breakers)


def _net_of_legs(read: Callable[[PositionView], float | None], *, absolute: bool = False) -> Read:
    """One series for each venue and symbol: in hedge mode it is the sum of two positions."""

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


def _signed_notional(position: PositionView) -> float | None:
    return None if position.notional is None else copysign(position.notional, position.quantity)


def _by_operation(read: Callable[[OperationStats], Value]) -> Read:
    return lambda now: ((pair, read(stats)) for pair, stats in now.counts.operations.items())


def _portfolio(read: Callable[[PortfolioView], float | None]) -> Read:
    return _single(lambda now: read(now.view.portfolio))


def _seconds(wall_ns: int | None) -> float | None:
    return None if wall_ns is None else wall_ns / 1e9


# -- readers of one metric -----------------------------------------------------------------------


def _breaker_states(now: Snapshot) -> Series:
    for breaker in now.view.breakers:
        for state in get_args(StateName):
            yield (breaker.limit, breaker.scope, state), breaker.state == state


def _limit_info(now: Snapshot) -> Series:
    return {
        (b.limit, b.scope, b.kind, b.on_breach, b.recovers, str(b.written).lower()): 1
        for b in now.view.breakers
    }.items()


def _halted(now: Snapshot) -> Series:
    halted = {(b.limit, b.scope, b.holds): 1 for b in now.view.breakers if b.holds is not None}
    if now.view.withheld is not None:
        reason = now.view.withheld.reason
        halted[reason, "account", reason] = 1
    return halted.items()


def _unknown_limits(now: Snapshot) -> Series:
    bounded = {(b.limit, b.scope): b.unknown is not None for b in now.view.breakers if b.bound}
    return {**bounded, **{(u.limit, u.scope): True for u in now.view.unknown}}.items()


def _quantiles(now: Snapshot) -> Series:
    for pair, stats in now.counts.operations.items():
        for quantile, seconds in stats.quantiles():
            yield (*pair, quantile), seconds


def _balances(now: Snapshot) -> Series:
    # Amounts of different assets cannot be summed under the label `other`.
    bounded = islice(now.view.portfolio.balances, now.max_scopes)
    return (((b.venue, b.asset), b.free + b.locked) for b in bounded)


def _leverage(now: Snapshot) -> Series:
    yield ("",), now.view.portfolio.leverage
    for venue in now.view.portfolio.venues:
        yield (venue.venue,), venue.leverage


def _worst(now: Snapshot) -> Series:
    yield ("",), now.view.portfolio.exposure_worst
    for venue in now.view.portfolio.venues:
        yield (venue.venue,), venue.exposure_worst


def _exposures(now: Snapshot) -> Series:
    bounded = islice(now.view.portfolio.assets, now.max_scopes)
    return (((one.asset,), one.notional) for one in bounded)


def _differences(now: Snapshot) -> Series:
    scopes = map(Scope, now.view.levels)
    venues = [name_of(scope) for scope in scopes if kind_of(scope) == "venue"]
    counts = {(venue, kind): 0 for venue in venues for kind in get_args(DifferenceKind)}
    for one in now.view.portfolio.differences:
        counts[one.venue, one.kind] = one.count
    return counts.items()


def _unconfirmed(now: Snapshot) -> dict[str, int]:
    unconfirmed = Counter(dict.fromkeys(now.pending, 0))
    for cancel in now.view.cancel:
        if not cancel.confirmed:
            targets = cancel.targets.items()
            unconfirmed.update(name for name, state in targets if state != "confirmed")
    return unconfirmed


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
        _by_breaker(lambda b: b.value),
    ),
    Row(
        "riskmon_limit_bound",
        "gauge",
        LIMIT,
        "The bound on the value.",
        _by_breaker(lambda b: b.bound),
    ),
    Row(
        "riskmon_limit_utilization_ratio",
        "gauge",
        LIMIT,
        "Value over bound (for a floor, bound over value), from 0 to 10; above 1 is a breach.",
        _by_breaker(lambda b: b.utilization),
    ),
    Row(
        "riskmon_limit_warning_ratio",
        "gauge",
        LIMIT,
        "The utilization from which the limit warns.",
        _by_breaker(lambda b: b.warning_ratio if b.bound else None),
    ),
    Row(
        "riskmon_limit_unknown",
        "gauge",
        LIMIT,
        "1 while the limit cannot be evaluated because data are missing, else 0.",
        _unknown_limits,
    ),
    Row(
        "riskmon_limit_info",
        "gauge",
        (*LIMIT, "kind", "on_breach", "recovers", "written"),
        "1: the kind of the limit, what its breach does, who ends its trips, and whether the "
        "configuration names it.",
        _limit_info,
    ),
    Row(
        "riskmon_limit_breaches_total",
        "counter",
        LIMIT,
        "Breaches of the limit; shadow limits count too.",
        _by_breaker(lambda b: b.breaches_total),
    ),
    Row(
        "riskmon_breaker_state",
        "gauge",
        (*LIMIT, "state"),
        "1 for the state that the breaker is in, 0 for the others.",
        _breaker_states,
    ),
    Row(
        "riskmon_breaker_trips_total",
        "counter",
        LIMIT,
        "Times that the breaker opened by itself.",
        _by_breaker(lambda b: b.trips_total),
    ),
    Row(
        "riskmon_breaker_last_trip_timestamp_seconds",
        "gauge",
        LIMIT,
        "Time at which the breaker last opened by itself; absent before its first trip.",
        _by_breaker(lambda b: _seconds(b.last_trip_ns)),
    ),
    Row(
        "riskmon_freeze_triggered_total",
        "counter",
        ("reason",),
        "Freezes by cause.",
        _by_label(lambda now: {**dict.fromkeys(FREEZES, 0), **now.view.freeze_total}),
    ),
    Row(
        "riskmon_freeze_active",
        "gauge",
        ("scope",),
        "1 while the scope is frozen, else 0.",
        _by_label(lambda now: {**dict.fromkeys(now.view.levels, False), **now.view.freeze_active}),
    ),
    Row(
        "riskmon_gate_level",
        "gauge",
        ("scope",),
        "Level of the gate: 0 halt, 1 reduce_only, 2 probe, 3 allow.",
        _by_label(lambda now: {s: LEVEL_NAMES.index(name) for s, name in now.view.levels.items()}),
    ),
    Row(
        "riskmon_halted",
        "gauge",
        (*LIMIT, "reason"),
        "1 while the limit keeps its scope below allow for this reason, else absent.",
        _halted,
    ),
    # -- orders
    Row(
        "riskmon_orders_checked_total",
        "counter",
        ("result",),
        "Checked orders, by result.",
        _by_label(lambda now: {**dict.fromkeys(CHECKS, 0), **now.view.orders_checked}),
    ),
    Row(
        "riskmon_orders_blocked_total",
        "counter",
        ("limit",),
        "Refused orders, by the limit that refused them.",
        _by_label(lambda now: {b.limit: 0 for b in now.view.breakers} | now.view.orders_blocked),
    ),
    # -- exchanges
    Row(
        "riskmon_exchange_latency_seconds",
        "histogram",
        OPERATION,
        "Time from request to answer.",
        _by_operation(lambda stats: stats.latency),
    ),
    Row(
        "riskmon_exchange_latency_window_seconds",
        "gauge",
        (*OPERATION, "quantile"),
        "Nearest-rank quantiles of the last 1000 latencies.",
        _quantiles,
        at_once=30,  # the quantiles of one operation sort its window
    ),
    Row(
        "riskmon_exchange_errors_total",
        "counter",
        OPERATION,
        "Failed requests.",
        _by_operation(lambda stats: stats.errors),
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
        _balances,
    ),
    Row(
        "riskmon_equity",
        "gauge",
        (),
        "Equity in the reference currency.",
        _portfolio(lambda p: p.equity),
    ),
    Row(
        "riskmon_pnl_realized",
        "gauge",
        (),
        "Realised P&L in the reference currency.",
        _portfolio(lambda p: p.pnl_realized),
    ),
    Row(
        "riskmon_pnl_unrealized",
        "gauge",
        (),
        "Unrealised P&L in the reference currency.",
        _portfolio(lambda p: p.pnl_unrealized),
    ),
    Row(
        "riskmon_pnl_day",
        "gauge",
        (),
        "P&L since the start of the trading day, net of cash flows.",
        _portfolio(lambda p: p.pnl_day),
    ),
    Row(
        "riskmon_drawdown_ratio",
        "gauge",
        (),
        "Fall of the unit value from its peak, from 0 to 1.",
        _portfolio(lambda p: p.drawdown_ratio),
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
        _exposures,
    ),
    Row(
        "riskmon_exposure_worst_notional",
        "gauge",
        ("venue",),
        "Gross notional with the resting orders; without a venue, the account's.",
        _worst,
    ),
    Row(
        "riskmon_leverage_ratio",
        "gauge",
        ("venue",),
        "Gross notional with the resting orders over equity; without a venue, the account's.",
        _leverage,
    ),
    Row(
        "riskmon_position_quantity",
        "gauge",
        ("venue", "symbol"),
        "Signed quantity, in base units or contracts, net over legs.",
        _net_of_legs(lambda position: position.quantity),
    ),
    Row(
        "riskmon_position_notional",
        "gauge",
        ("venue", "symbol"),
        "Notional in the reference currency, net over legs; absent without a price.",
        _net_of_legs(_signed_notional, absolute=True),
    ),
    Row(
        "riskmon_assets_unpriced",
        "gauge",
        (),
        "Held assets that have no price.",
        _portfolio(lambda p: len(p.unpriced)),
    ),
    Row(
        "riskmon_reconciliation_differences_total",
        "counter",
        ("venue", "kind"),
        "Reports that differ from what was known of the venue, by kind.",
        _differences,
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
        _by_label(lambda now: {target: count for target, (count, _) in now.pending.items()}),
    ),
    Row(
        "riskmon_cancel_oldest_pending_timestamp_seconds",
        "gauge",
        ("target",),
        "Time at which the target's oldest pending cancel was created; absent without one.",
        lambda now: (((t,), _seconds(since_ns)) for t, (_, since_ns) in now.pending.items()),
    ),
    Row(
        "riskmon_cancel_unconfirmed",
        "gauge",
        ("target",),
        "Incidents for which the target has not confirmed that no order rests.",
        _by_label(_unconfirmed),
    ),
    # -- the sidecar itself
    Row(
        "riskmon_breach_to_gate_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the shut gate.",
        _single(lambda now: now.counts.gate_delays),
    ),
    Row(
        "riskmon_breach_to_cancel_seconds",
        "histogram",
        (),
        "Time from the arrival of a breaching event to the first cancel attempt.",
        _single(lambda now: now.counts.cancel_delays),
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
        _by_label(lambda now: now.counts.rejections),
    ),
    Row(
        "riskmon_operations_refused_total",
        "counter",
        ("reason",),
        "Operators' calls that were refused.",
        _by_label(lambda now: now.counts.refusals),
    ),
    Row(
        "riskmon_accept_pauses_total",
        "counter",
        (),
        "Pauses of one second in accepting connections, because no descriptor was free.",
        _single(lambda now: now.counts.accept_pauses),
    ),
    Row(
        "riskmon_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "Time at which the last turn of the sequencer ended.",
        _single(lambda now: _seconds(now.counts.last_cycle_ns)),
    ),
    Row(
        "riskmon_cycle_duration_seconds",
        "histogram",
        (),
        "Duration of one turn of the sequencer.",
        _single(lambda now: now.counts.cycles),
    ),
    Row(
        "riskmon_journal_commit_duration_seconds",
        "histogram",
        (),
        "Duration of one commit of the journal.",
        _single(lambda now: now.counts.commits),
    ),
    Row(
        "riskmon_config_last_reload_successful",
        "gauge",
        (),
        "1 if the last reload of the configuration succeeded, else 0.",
        _single(lambda now: now.counts.reloaded),
    ),
    Row(
        "riskmon_log_dropped_total",
        "counter",
        (),
        "Log lines dropped because standard error was not read fast enough.",
        _single(lambda now: now.log_dropped),
    ),
    Row(
        "riskmon_gate_rewrites_total",
        "counter",
        (),
        "Times that the gate file was recreated because it was lost, replaced or damaged.",
        _single(lambda now: now.counts.gate_rewrites),
    ),
)
