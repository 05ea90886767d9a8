"""Building the :class:`~riskmon.core.view.View` of the engine's state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import asdict

from riskmon.core.book.instruments import instrument
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels, Incident
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import ALLOW, LEVEL_NAMES, HaltReason
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.latency import LatencyP99Limit
from riskmon.core.limits.limit import Limit, StateLimit
from riskmon.core.limits.windows import statistics
from riskmon.core.state import State
from riskmon.core.topics import scope_name
from riskmon.core.unknown import Unknown
from riskmon.core.view import (
    BalanceView,
    BreakerView,
    CancelView,
    EdgeView,
    FiguresView,
    LastEventView,
    LatencyView,
    PortfolioView,
    PositionView,
    UnknownView,
    View,
)


def view(config: EngineConfig, state: State, board: Board, facts: Facts, cancels: Cancels) -> View:
    """All of the engine that is shown, copied, at the time of the facts."""
    breakers = list(board)
    return View(
        account=config.account,
        generation=board.state.generation,
        at_ns=facts.wall_ns,
        level=LEVEL_NAMES[board.levels.get("account", 0)],
        levels={scope: LEVEL_NAMES[level] for scope, level in board.levels.items()},
        breakers=[_breaker(board, breaker, facts, cancels) for breaker in breakers],
        latency=list(_latency(breakers, facts.now_ns)),
        portfolio=_portfolio(facts.book),
        edges=[
            EdgeView(strategy=strategy, bps=edge.bps, at_ns=edge.wall_ns)
            for strategy, edge in state.edges.items()
        ],
        unknown=[
            UnknownView(
                limit=one.rule.name,
                scope=one.state.scope,
                reason=one.state.unknown,
                halted=one.state.halted,
            )
            for one in breakers
            if one.state.unknown is not None
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
            for scope in board.levels
        },
        orders_checked=dict(state.checked),
        orders_blocked=dict(state.blocked),
        duplicates_total=state.duplicates_total,
    )


def _breaker(board: Board, breaker: Breaker[Limit], facts: Facts, cancels: Cancels) -> BreakerView:
    value = _value(breaker, facts)
    rule, state = breaker.rule, breaker.state
    to_wall_ns = board.wall_ns - board.now_ns
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
        unknown=state.unknown,
        breaches_total=state.breaches_total,
        trips_total=state.trips_total,
        last_trip_ns=state.last_trip_wall_ns,
        on_breach=rule.params.on_breach,
        category=rule.category,
        recovers=breaker.recovers,
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


def _latency(breakers: Iterable[Breaker[Limit]], now_ns: int) -> Iterator[LatencyView]:
    """The statistics of every latency window that holds samples."""
    for breaker in breakers:
        limit = breaker.limit
        if isinstance(limit, LatencyP99Limit) and (samples := limit.measure.values_at(now_ns)):
            yield LatencyView(
                venue=scope_name(breaker.state.scope),
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


def figures(book: Portfolio) -> FiguresView:
    """The account's figures, without what it holds."""
    state, settled = book.state, book.settled_equity
    known = not isinstance(settled, Unknown)
    unit_value = state.settled_unit_value
    return FiguresView(
        reference=book.reference,
        equity=None if isinstance(settled, Unknown) else settled,
        settled=book.venues.settled(),
        initial_capital=state.capital,
        unit_value=unit_value if known else None,
        pnl_realized=book.pnl_realised(),
        pnl_unrealized=book.pnl_unrealised(),
        pnl_day=book.curves.pnl_day(),
        pnl_ratio=unit_value - 1.0 if known else None,
        drawdown_ratio=book.drawdown() if known else None,
        unpriced=book.unpriced(),
    )


def _portfolio(book: Portfolio) -> PortfolioView:
    return PortfolioView(
        **asdict(figures(book)),
        balances=[
            BalanceView(venue=name, asset=asset, free=held.free, locked=held.locked)
            for name, venue in book.state.venues.venues.items()
            for asset, held in venue.assets.items()
        ],
        positions=_positions(book),
    )


def _positions(book: Portfolio) -> list[PositionView]:
    views = []
    for position in book.state.positions.positions.values():
        if position.strategy:
            continue
        what = instrument(position.symbol, book.reference)
        mark = book.prices.mark(position.symbol, position.venue)
        worth = book.state.worth.get(what.settle)
        views.append(
            PositionView(
                venue=position.venue,
                symbol=position.symbol,
                quantity=position.quantity,
                entry_price=position.entry,
                mark=mark.price if mark else None,
                notional=abs(position.notional) if mark else None,
                unrealized=None if worth is None else position.unrealised * worth,
            )
        )
    return views
