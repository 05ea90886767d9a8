"""May this order be sent? The levels of its scopes, and its effect on every limit.

An order is judged as if it were filled, together with the orders that are permitted and not filled
yet. An order that lowers a size is never refused for that size. A limit whose value with the order
is unknown (an order in a currency without a price) refuses it.
"""

from __future__ import annotations

from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.decisions import HALT, LEVEL_NAMES, PROBE, REDUCE_ONLY, CheckAnswer, Violation
from riskmon.core.events import Check
from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import Limit
from riskmon.core.scopes import ACCOUNT, Scope, strategy_scope, symbol_scope, venue_scope
from riskmon.core.unknown import Unknown

PERMIT_NS = 5 * 10**9


def check(board: Board, facts: Facts, order: Check, scopes: list[Scope]) -> CheckAnswer:
    """Judge one order; an allowed one is reserved, and takes a permit at level probe."""
    levels = board.levels
    level = min([levels.get(scope, HALT) for scope in scopes])
    intent = facts.intent(order)
    reasons: list[Violation] = []
    if level == HALT or (level == REDUCE_ONLY and not _only_reduces(facts, intent)):
        reasons = _shut(board, scopes)
    reasons = _merge(reasons, _refusals(board, facts, intent, scopes))
    if level == PROBE and not reasons:
        reasons = _take_permits(board, scopes, simulate=order.simulate)
    if not order.simulate and not reasons:
        _admit(board, facts, intent, scopes)
    return CheckAnswer(allowed=not reasons, level=LEVEL_NAMES[level], reasons=reasons)


def checked_scopes(order: Check) -> list[Scope]:
    """The scopes that must all permit an order."""
    scopes = [ACCOUNT, venue_scope(order.venue), symbol_scope(order.symbol)]
    return [*scopes, strategy_scope(order.strategy)] if order.strategy else scopes


def _shut(board: Board, scopes: list[Scope]) -> list[Violation]:
    """The breakers that hold the scopes under level probe."""
    return board.violations(scopes, PROBE) + [
        Violation(limit="unregistered", scope=scope)  # only a dry run meets one
        for scope in scopes
        if scope not in board.levels
    ]


def _merge(shut: list[Violation], refusing: list[Violation]) -> list[Violation]:
    """Each limit once: with the value that the order would lead to, where there is one."""
    if not shut:
        return refusing
    listed = {(one.limit, one.scope) for one in refusing}
    return [one for one in shut if (one.limit, one.scope) not in listed] + refusing


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


def _refusals(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> list[Violation]:
    """The limits that the order would take past their bounds."""
    found: list[Violation | None] = []
    counts = not intent.order.simulate
    for scope in scopes:
        for sizing in board.sizing.get(scope, ()):
            size = sizing.limit.size(facts, intent)
            if type(size) is Unknown:
                # Whatever the size is, an order that closes lowers it.
                found.append(None if _lowers(facts, intent) else _unknown(sizing))
                continue
            before, after = size
            if after > before and sizing.limit.is_past(after, sizing.bound):
                found.append(_exceed(intent, sizing, after))
        for ordering in board.ordering.get(scope, ()):
            if ordering.state.state == "disabled":
                continue
            judging, bound = ordering.limit, ordering.bound
            value = judging.judge(facts, intent, bound)
            if counts and (count := judging.record(facts, intent)) is not None:
                ordering.open("breach_freeze", judging.describe(count, bound), value=count)
            if type(value) is Unknown:
                found.append(_unknown(ordering))
            elif judging.is_past(value, bound):
                found.append(_exceed(intent, ordering, value))
            elif counts and ordering.state.past:
                ordering.state.end_row()
    return [one for one in found if one is not None]


def _exceed(intent: Intent, breaker: Breaker[Limit], value: float) -> Violation | None:
    """The order would take a limit past its bound: refuse it, and count the breach."""
    if breaker.state.state == "disabled":
        return None
    if not intent.order.simulate:
        breaker.exceed(value)
    if not breaker.rule.refuses:
        return None
    return breaker.violated_by(value, breaker.limit.utilization(value, breaker.bound))


def _unknown(breaker: Breaker[Limit]) -> Violation | None:
    """A limit whose value with the order is unknown refuses it."""
    rule = breaker.rule
    if breaker.state.state == "disabled" or rule.params.on_unknown == "ignore" or not rule.refuses:
        return None
    return breaker.violated_by(None, None)


def _admit(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> None:
    """Reserve a permitted order, and count it in the limits on orders."""
    notional = None if isinstance(intent.notional, Unknown) else abs(intent.notional)
    facts.orders.reserve(intent.order, notional, facts.now_ns)
    permitted = [breaker for scope in scopes for breaker in board.ordering.get(scope, ())]
    for breaker in permitted:
        breaker.limit.commit(facts, intent, breaker.bound)
    if board.half_open:
        for breaker in permitted:
            breaker.probe(good=True)  # a good order is the only sample of such a limit


def _take_permits(board: Board, scopes: list[Scope], *, simulate: bool) -> list[Violation]:
    """Take one permit of each half-open breaker; those that have none left."""
    probing: list[Breaker[Limit]] = [
        breaker
        for scope in scopes
        for breaker in board.by_scope.get(scope, ())
        if breaker.state.state == "half_open"
    ]
    spent, now_ns = [], board.clock.instant.now_ns
    for breaker in probing:
        state = breaker.state
        state.permits_ns = [at for at in state.permits_ns if now_ns - at < PERMIT_NS]
        if state.good + len(state.permits_ns) >= breaker.probes:
            spent.append(breaker.violation())
    if not spent and not simulate:
        for breaker in probing:
            breaker.state.permits_ns.append(now_ns)
    return spent
