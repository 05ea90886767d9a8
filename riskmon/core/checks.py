"""May this order be sent? The levels of its scopes, and what each of them leaves."""

from __future__ import annotations

from riskmon.core.board import Board
from riskmon.core.decisions import (
    HALT,
    LEVEL_NAMES,
    PROBE,
    REDUCE_ONLY,
    Blame,
    CheckAnswer,
)
from riskmon.core.events import Check
from riskmon.core.limits.policy import Recovery
from riskmon.core.portfolio import Portfolio

PERMIT_NS = 5 * 10**9


def check(board: Board, book: Portfolio, order: Check) -> CheckAnswer:
    """Judge one order; at level probe an allowed one takes a permit."""
    scopes = scopes_of(order)
    level = min(board.levels.get(scope, HALT) for scope in scopes)
    reasons: list[Blame] = []
    if level == HALT or (level == REDUCE_ONLY and not book.reduces(order)):
        reasons = board.blames(scopes, PROBE) or _unregistered(board, scopes)
    elif level == PROBE:
        reasons = _take_permits(board, scopes, simulate=order.simulate)
    return CheckAnswer(
        allowed=not reasons,
        level=LEVEL_NAMES[level],  # type: ignore[arg-type]
        reasons=reasons,
    )


def scopes_of(order: Check) -> list[str]:
    """The scopes that must all permit an order."""
    scopes = ["account", "venue:" + order.venue, "symbol:" + order.symbol]
    return [*scopes, "strategy:" + order.strategy] if order.strategy else scopes


def _unregistered(board: Board, scopes: list[str]) -> list[Blame]:
    return [Blame(limit="unregistered", scope=s) for s in scopes if s not in board.levels]


def _take_permits(board: Board, scopes: list[str], *, simulate: bool) -> list[Blame]:
    """One permit of each half-open breaker, or those that have none left."""
    probing = [
        breaker
        for scope in scopes
        for breaker in board.by_scope.get(scope, ())
        if breaker.state == "half_open"
    ]
    spent = []
    for breaker in probing:
        breaker.permits_ns = [t for t in breaker.permits_ns if board.now_ns - t < PERMIT_NS]
        recover = board.params(breaker).recover
        wanted = recover.probes if isinstance(recover, Recovery) else 1
        if breaker.good + len(breaker.permits_ns) >= wanted:
            spent.append(board.blame(breaker))
    if not spent and not simulate:
        for breaker in probing:
            breaker.permits_ns.append(board.now_ns)
    return spent
