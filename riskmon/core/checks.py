"""May this order be sent? The levels of its scopes, and what it would do to every limit.

An order is judged as if it were filled, together with the orders that were permitted before it and
are not filled yet. What lowers a measured size is never refused for that size. What cannot be told
(an order in a currency without a price) is refused by the limits that need it.
"""

from __future__ import annotations

from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.judge import Judge
from riskmon.core.breakers.rules import Rule, utilization
from riskmon.core.decisions import HALT, LEVEL_NAMES, PROBE, REDUCE_ONLY, CheckAnswer, Violation
from riskmon.core.events import Check
from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.policy import Recovery
from riskmon.core.unknown import Unknown

PERMIT_NS = 5 * 10**9
_REFUSES = ("block", "reduce", "trip", "freeze")


def check(judge: Judge, facts: Facts, order: Check, scopes: list[str]) -> CheckAnswer:
    """Judge one order; an allowed one is reserved, and takes a permit at level probe."""
    board = judge.board
    levels = board.levels
    level = min([levels.get(scope, HALT) for scope in scopes])
    intent = facts.intent(order)
    reasons: list[Violation] = []
    if level == HALT or (level == REDUCE_ONLY and not _only_reduces(facts, intent)):
        reasons = _shut(board, scopes)
    reasons = _merge(reasons, _refusals(judge, facts, intent, scopes))
    if level == PROBE and not reasons:
        reasons = _take_permits(board, scopes, simulate=order.simulate)
    if not order.simulate and not reasons:
        _admit(judge, facts, intent, scopes)
    return CheckAnswer(
        allowed=not reasons,
        level=LEVEL_NAMES[level],  # type: ignore[arg-type]
        reasons=reasons,
    )


def checked_scopes(order: Check) -> list[str]:
    """The scopes that must all permit an order."""
    scopes = ["account", "venue:" + order.venue, "symbol:" + order.symbol]
    return [*scopes, "strategy:" + order.strategy] if order.strategy else scopes


def _shut(board: Board, scopes: list[str]) -> list[Violation]:
    """What holds the scopes under level probe."""
    return board.blames(scopes, PROBE) + [
        Violation(limit="unregistered", scope=scope)  # only a dry run meets one
        for scope in scopes
        if scope not in board.levels
    ]


def _merge(shut: list[Violation], refusing: list[Violation]) -> list[Violation]:
    """Each limit once: with the value that the order would have led to, where there is one."""
    if not shut:
        return refusing
    told = {(blame.limit, blame.scope) for blame in refusing}
    return [blame for blame in shut if (blame.limit, blame.scope) not in told] + refusing


def _only_reduces(facts: Facts, intent: Intent) -> bool:
    """Whether an order, with those reserved on its side, can do no more than close."""
    order, earlier = intent.order, intent.earlier
    reserved = facts.orders.left(order.venue, order.symbol, order.side)
    if earlier is not None and (earlier.venue, earlier.side) == (order.venue, order.side):
        reserved -= earlier.left
    return facts.book.positions.reduces(
        order.venue, order.symbol, order.side, order.quantity + reserved
    )


def _lowers(facts: Facts, intent: Intent) -> bool:
    sizes = intent.quantities
    return sizes.symbol_after < sizes.symbol_before and _only_reduces(facts, intent)


def _refusals(judge: Judge, facts: Facts, intent: Intent, scopes: list[str]) -> list[Violation]:
    """The limits that the order would take past their bounds."""
    refused = []
    for scope in scopes:
        for rule, breaker in judge.board.checking.get(scope, ()):
            if breaker.state == "disabled":
                continue
            limit, bound, before = rule.limit, breaker.bound, -1.0
            if limit.standing:
                value = limit.size(facts, intent)
                if type(value) is tuple:
                    before, value = value
            else:
                value = limit.judge(facts, intent, scope, bound)
                if rule.notes:
                    _note(judge, facts, intent, rule, breaker)
            if type(value) is Unknown:
                blame = _untold(facts, intent, rule, breaker)
            elif value <= bound or value <= before:
                continue  # nearly always
            else:
                blame = _exceed(judge, intent, rule, breaker, value)
            if blame is not None:
                refused.append(blame)
    return refused


def _exceed(
    judge: Judge, intent: Intent, rule: Rule, breaker: Breaker, value: float
) -> Violation | None:
    """The order would take a limit past its bound."""
    if not intent.order.simulate:
        _act(judge, rule, breaker, value)
    if rule.params.on_breach not in _REFUSES:
        return None
    return Violation(
        limit=rule.name,
        scope=breaker.scope,
        value=value,
        bound=breaker.bound,
        utilization=utilization(value, breaker.bound),
    )


def _note(judge: Judge, facts: Facts, intent: Intent, rule: Rule, breaker: Breaker) -> None:
    """An order was asked for, permitted or not: enough of them may freeze."""
    if intent.order.simulate:
        return
    times = rule.limit.note(facts, intent, breaker.scope)
    if rule.limit.freezes(times):
        reason = rule.limit.describe(breaker.scope, times, breaker.bound)
        judge.trips.shut(breaker, "breach_freeze", reason, value=times)


def _untold(facts: Facts, intent: Intent, rule: Rule, breaker: Breaker) -> Violation | None:
    """A limit that cannot tell what the order would lead to refuses it."""
    params = rule.params
    if params.on_unknown == "ignore" or params.on_breach not in _REFUSES:
        return None
    if rule.limit.standing and _lowers(facts, intent):
        return None  # whatever the size is, it gets smaller
    return Violation(limit=rule.name, scope=breaker.scope, bound=breaker.bound)


def _act(judge: Judge, rule: Rule, breaker: Breaker, value: float) -> None:
    """Count the breach; a limit that trips or freezes does so for the order too."""
    breaker.breaches_total += 1
    if rule.params.on_breach in ("trip", "freeze") and breaker.state in ("closed", "half_open"):
        reason = "checked order: " + rule.limit.describe(breaker.scope, value, breaker.bound)
        cause = "breach" if rule.params.on_breach == "trip" else "breach_freeze"
        judge.trips.shut(breaker, cause, reason, value=value)  # type: ignore[arg-type]


def _admit(judge: Judge, facts: Facts, intent: Intent, scopes: list[str]) -> None:
    """Let the order count from now on."""
    notional = None if isinstance(intent.notional, Unknown) else abs(intent.notional)
    facts.orders.reserve(intent.order, notional, facts.now_ns)
    for scope in scopes:
        for rule, breaker in judge.board.spending.get(scope, ()):
            rule.limit.spend(facts, intent, scope, breaker.bound)
    if judge.board.half_open:
        for rule, scope in _half_open(judge.board, scopes):
            judge.probe(rule, scope, good=True)


def _half_open(board: Board, scopes: list[str]) -> list[tuple[Rule, str]]:
    """The limits on single orders that want good ones: nothing else is a sample of them."""
    return [
        (rule, scope)
        for scope in scopes
        for rule, breaker in board.checking.get(scope, ())
        if breaker.state == "half_open" and not rule.limit.standing
    ]


def _take_permits(board: Board, scopes: list[str], *, simulate: bool) -> list[Violation]:
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
