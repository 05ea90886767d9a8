"""What the engine shows: plain data for the status endpoint, the metrics and the page.

:meth:`riskmon.core.engine.Engine.view` builds it for each reader; nothing here is the engine's own
state, so a reader can neither change it nor see half of a step. Times are UTC ns since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import asdict, replace

from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels, Incident
from riskmon.core.breakers.messages import recovers
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import (
    ALLOW,
    LEVEL_NAMES,
    AddressedBreaker,
    CancelState,
    HaltReason,
    Notice,
    Recovers,
)
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.latency import LatencyP99Limit
from riskmon.core.limits.limit import Limit, StateLimit
from riskmon.core.limits.windows import Statistics, statistics
from riskmon.core.portfolio_view import PortfolioView, portfolio
from riskmon.core.scopes import ACCOUNT, name_of
from riskmon.core.state import State
from riskmon.core.unknown import Unknown


class BreakerView(AddressedBreaker, frozen=True, kw_only=True):
    """One (limit, scope): its latest evaluation and its state machine."""

    kind: str
    since_ns: int
    value: float | None
    bound: float | None
    utilization: float | None
    warning_ratio: float
    warning: bool
    unknown: str | None  # why the value cannot be determined, when it must be
    breaches_total: int
    trips_total: int
    last_trip_ns: int | None
    on_breach: str
    written: bool  # in the configuration, not a default
    category: str  # where the cause of its trips lies
    recovers: Recovers  # who ends them
    until_ns: int | None  # when the wait of an open, or the leave of a disabled breaker, ends
    holds: HaltReason | None = None  # why it holds its scope below allow; None: it does not


class LatencyView(Statistics, frozen=True, kw_only=True):
    """Statistics of a latency window, in seconds."""

    venue: str
    operation: str | None
    limit: str


class UnknownView(Struct, frozen=True, kw_only=True):
    """A limit that cannot be evaluated, what is missing and the cure."""

    limit: str
    scope: str
    reason: str
    halted: bool


class CancelView(Struct, frozen=True, kw_only=True):
    """An incident whose cancel is under way, or that has not ended yet."""

    incident: str
    scope: str
    limit: str
    sweep: int
    confirmed: bool
    targets: dict[str, CancelState]
    since_ns: int


class EdgeView(Struct, frozen=True, kw_only=True):
    """The last edge in basis points; strategy ``""`` is the account."""

    strategy: str
    bps: float
    at_ns: int


class LastEventView(Struct, frozen=True, kw_only=True):
    """When a venue's last event of one type came."""

    venue: str
    stream: str
    at_ns: int


class Withheld(Struct, frozen=True, kw_only=True):
    """Why the sidecar does not renew the lease, whatever the engine's levels are."""

    reason: HaltReason
    detail: str


class View(Struct, frozen=True, kw_only=True):
    """Everything that a reader may see of the engine, at one instant."""

    account: str
    generation: int
    at_ns: int
    level: str
    levels: dict[str, str]
    breakers: list[BreakerView]
    latency: list[LatencyView]
    portfolio: PortfolioView
    edges: list[EdgeView]
    unknown: list[UnknownView]
    cancel: list[CancelView]
    last_events: list[LastEventView]
    freeze_total: dict[str, int]  # edge_collapse, manual, limit_violation
    freeze_active: dict[str, bool]  # by scope
    orders_checked: dict[str, int]  # allowed, refused
    orders_blocked: dict[str, int]  # by limit
    notices: list[Notice]
    duplicates_total: int
    withheld: Withheld | None = None  # set by the sidecar: the engine has no lease


def withhold(view: View, why: Withheld | None) -> View:
    """``view`` as it is while the lease is withheld: every level is halt."""
    if why is None:
        return view
    return replace(view, level="halt", levels=dict.fromkeys(view.levels, "halt"), withheld=why)


def view(config: EngineConfig, state: State, board: Board, facts: Facts, cancels: Cancels) -> View:
    """All of the engine that is shown, copied, at the time of the facts."""
    breakers = list(board)
    shown = [_breaker(board, breaker, facts, cancels) for breaker in breakers]
    return View(
        account=config.account,
        generation=board.state.generation,
        at_ns=facts.clock.instant.wall_ns,
        level=LEVEL_NAMES[board.levels.get(ACCOUNT, 0)],
        levels={scope: LEVEL_NAMES[level] for scope, level in board.levels.items()},
        breakers=shown,
        latency=list(_latency(breakers, facts.now_ns)),
        portfolio=portfolio(facts),
        edges=[
            EdgeView(strategy=strategy, bps=edge.bps, at_ns=edge.wall_ns)
            for strategy, edge in state.edges.items()
        ],
        unknown=[
            UnknownView(
                limit=one.limit, scope=one.scope, reason=one.unknown, halted=breaker.state.halted
            )
            for one, breaker in zip(shown, breakers, strict=True)
            if one.unknown is not None
        ],
        cancel=[_cancel(incident) for incident in cancels.incidents.values()],
        last_events=[
            LastEventView(venue=venue, stream=stream, at_ns=at_ns - state.now_ns + state.wall_ns)
            for venue, streams in state.last_event_ns.items()
            for stream, at_ns in streams.items()
        ],
        freeze_total=dict(board.state.freeze_total),
        freeze_active={
            scope: any(one.state.state == "frozen" for one in board.by_scope.get(scope, ()))
            for scope in board.state.scopes
        },
        orders_checked=dict(state.checked),
        orders_blocked=dict(state.blocked),
        notices=list(state.notices),
        duplicates_total=state.duplicates_total,
    )


def _breaker(board: Board, breaker: Breaker[Limit], facts: Facts, cancels: Cancels) -> BreakerView:
    value = _value(breaker, facts)
    rule, state = breaker.rule, breaker.state
    now_ns, wall_ns = board.clock.instant
    to_wall_ns = wall_ns - now_ns
    return BreakerView(
        limit=rule.name,
        kind=rule.kind,
        scope=state.scope,
        state=state.state,
        generation=state.generation,
        since_ns=state.since_wall_ns,
        reason=state.reason,
        incident=state.incident,
        value=value,
        bound=state.bound,
        utilization=breaker.limit.utilization(value, state.bound),
        warning_ratio=rule.params.warn,
        warning=state.warned,
        unknown=None if state.unknown is None else _reason(breaker, facts, state.unknown),
        breaches_total=state.breaches_total,
        trips_total=state.trips_total,
        last_trip_ns=state.last_trip_wall_ns,
        on_breach=rule.params.on_breach,
        written=rule.written,
        category=rule.category,
        recovers=recovers(breaker.rule, breaker.state),
        until_ns=None if state.until_ns is None else state.until_ns + to_wall_ns,
        holds=_holds(breaker, cancels),
    )


def _holds(breaker: Breaker[Limit], cancels: Cancels) -> HaltReason | None:
    """Why a breaker holds its scope below allow; None when it does not."""
    if breaker.level == ALLOW:
        return None
    if breaker.state.halted:
        return "unknown"
    incident = cancels.incidents.get(breaker.state.incident or "")
    by_operator = incident is not None and incident.record.by is not None
    if breaker.rule.halt_reason == "breach" and by_operator:
        return "operator"
    return breaker.rule.halt_reason


def _value(breaker: Breaker[Limit], facts: Facts) -> float | None:
    """The value as last evaluated; that of a silence, which grows with time, as of now."""
    limit = breaker.limit
    if (
        breaker.state.value is None
        or not isinstance(limit, StateLimit)
        or not limit.grows_with_time
    ):
        return breaker.value(facts.now_ns)
    value = limit.value(facts)
    return None if isinstance(value, Unknown) else value


def _reason(breaker: Breaker[Limit], facts: Facts, evaluated: str) -> str:
    """Why a value is unknown; the age of an old one is as of now."""
    limit = breaker.limit
    value = limit.value(facts) if isinstance(limit, StateLimit) else None
    return value.text(facts.now_ns) if isinstance(value, Unknown) else evaluated


def _latency(breakers: Iterable[Breaker[Limit]], now_ns: int) -> Iterator[LatencyView]:
    """The statistics of every latency window that holds samples."""
    for breaker in breakers:
        limit = breaker.limit
        if isinstance(limit, LatencyP99Limit) and (samples := limit.measure.values_at(now_ns)):
            yield LatencyView(
                venue=name_of(breaker.state.scope),
                operation=limit.operation,
                limit=breaker.rule.name,
                **asdict(statistics(samples)),
            )


def _cancel(incident: Incident) -> CancelView:
    return CancelView(
        incident=incident.record.id,
        scope=incident.record.scope,
        limit=incident.record.limit or "",
        sweep=incident.sweep,
        confirmed=incident.confirmed,
        targets={name: target.state for name, target in incident.targets.items()},
        since_ns=incident.record.at_ns,
    )
