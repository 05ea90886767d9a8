"""Building the :class:`~riskmon.core.view.View` of the engine's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from riskmon.core.book.instruments import instrument
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.rules import HALT_REASONS, utilization
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import ALLOW, LEVEL_NAMES
from riskmon.core.limits.windows import statistics
from riskmon.core.unknown import Unknown
from riskmon.core.view import (
    BalanceView,
    BreakerView,
    EdgeView,
    FiguresView,
    HaltReason,
    LastEventView,
    LatencyView,
    PortfolioView,
    PositionView,
    UnknownView,
    View,
)

if TYPE_CHECKING:
    from riskmon.core.engine import State
    from riskmon.core.limits.facts import Facts


def view(config: EngineConfig, state: State, board: Board, facts: Facts, cancels: Cancels) -> View:
    """All of the engine that is shown, copied, at the time of the facts."""
    breakers = [
        breaker for by_scope in board.state.breakers.values() for breaker in by_scope.values()
    ]
    return View(
        account=config.account,
        generation=board.state.generation,
        at_ns=facts.wall_ns,
        level=LEVEL_NAMES[board.levels.get("account", 0)],
        levels={scope: LEVEL_NAMES[level] for scope, level in board.levels.items()},
        breakers=[_breaker(board, breaker, facts, cancels) for breaker in breakers],
        latency=_latency(board, facts.now_ns),
        portfolio=_portfolio(facts.book),
        edges=[
            EdgeView(strategy=strategy, bps=edge.bps, at_ns=edge.wall_ns)
            for strategy, edge in state.edges.items()
        ],
        unknown=[
            UnknownView(limit=b.limit, scope=b.scope, reason=b.unknown, halted=b.halted)
            for b in breakers
            if b.unknown is not None
        ],
        cancel=cancels.view(),
        last_events=[
            LastEventView(venue=venue, stream=stream, at_ns=at_ns - state.now_ns + state.wall_ns)
            for venue, streams in state.heard_ns.items()
            for stream, at_ns in streams.items()
        ],
        freeze_total=dict(board.state.freeze_total),
        freeze_active={
            scope: any(b.state == "frozen" for b in board.by_scope.get(scope, ()))
            for scope in board.levels
        },
        orders_checked=dict(state.checked),
        orders_blocked=dict(state.blocked),
        duplicates_total=state.duplicates_total,
    )


def _breaker(board: Board, breaker: Breaker, facts: Facts, cancels: Cancels) -> BreakerView:
    value = _value(board, breaker, facts)
    rule, params = board.rules.get(breaker.limit), board.params(breaker)
    return BreakerView(
        limit=breaker.limit,
        kind=rule.limit.kind if rule else breaker.limit,
        scope=breaker.scope,
        state=breaker.state,
        generation=breaker.generation,
        since_ns=breaker.since_wall_ns,
        reason=breaker.reason,
        incident=breaker.incident,
        value=value,
        bound=breaker.bound,
        utilization=utilization(value, breaker.bound, board.is_floor(breaker)),
        warning_ratio=params.warn,
        warning=breaker.warned,
        unknown=breaker.unknown,
        breaches_total=breaker.breaches_total,
        trips_total=breaker.trips_total,
        last_trip_ns=breaker.last_trip_wall_ns,
        on_breach=params.on_breach,
        category=board.category(breaker),
        recovers=board.recovers(breaker),
        until_ns=None
        if breaker.until_ns is None
        else breaker.until_ns - board.now_ns + board.wall_ns,
        holds=_holds(board, breaker, cancels),
    )


def _holds(board: Board, breaker: Breaker, cancels: Cancels) -> HaltReason | None:
    """Why a breaker holds its scope below allow; None when it does not."""
    if breaker.level(board.params(breaker).level) == ALLOW:
        return None
    if breaker.halted:
        return "unknown"
    if breaker.limit in HALT_REASONS:
        return HALT_REASONS[breaker.limit]
    incident = cancels.incidents.get(breaker.incident or "")
    return "operator" if incident is not None and incident.record.by is not None else "breach"


def _value(board: Board, breaker: Breaker, facts: Facts) -> float | None:
    """As last judged; a silence, which grows by itself, as it is."""
    rule = board.rules.get(breaker.limit)
    if rule is None or breaker.value is None or not getattr(rule.limit, "ages", False):
        return board.value(breaker, facts.now_ns)
    value: float | None = rule.limit.value(facts, breaker.scope)
    return value


def _latency(board: Board, now_ns: int) -> list[LatencyView]:
    views = []
    for rule in board.rules.values():
        for venue, window in getattr(rule.limit, "windows", {}).items():
            samples = window.values_at(now_ns)
            if samples:
                views.append(
                    LatencyView(
                        venue=venue,
                        operation=rule.params.operation,
                        limit=rule.name,
                        **statistics(samples),  # type: ignore[arg-type]
                    )
                )
    return views


def figures(book: Portfolio) -> FiguresView:
    """The account's figures, without what it holds."""
    return FiguresView(**_figures(book))


def _figures(book: Portfolio) -> dict[str, Any]:
    state = book.state
    known = not isinstance(equity := book.judged, Unknown)
    unit_value = state.settled_unit_value
    return {
        "reference": book.reference,
        "equity": equity if known else None,
        "settled": book.venues.settled(),
        "initial_capital": state.capital,
        "unit_value": unit_value if known else None,
        "pnl_realized": book.pnl_realised(),
        "pnl_unrealized": book.pnl_unrealised(),
        "pnl_day": book.curves.pnl_day(),
        "pnl_ratio": unit_value - 1.0 if known else None,
        "drawdown_ratio": book.drawdown() if known else None,
        "unpriced": book.unpriced(),
    }


def _portfolio(book: Portfolio) -> PortfolioView:
    return PortfolioView(
        **_figures(book),
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
