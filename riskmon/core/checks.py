"""Pre-trade checks: the levels of an order's scopes, and its effect on every limit.

An order is judged as if it were filled, together with the orders that are permitted or rest and are
not filled yet. An order that lowers a size is never refused for that size. A limit whose value with
the order is unknown (an order in a currency without a price) refuses it, unless the order does no
more than close. The same check again, by its id and its terms, has the same answer while the level
of its scopes is the same.
"""

from __future__ import annotations

from riskmon.core.book.pending import Reservation
from riskmon.core.book.reservations import whole
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.decisions import (
    HALT,
    LEVEL_NAMES,
    PROBE,
    REDUCE_ONLY,
    CheckAnswer,
    LevelName,
    Violation,
)
from riskmon.core.events import Check
from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import Limit, OrderLimit, SizeLimit
from riskmon.core.naming import assets_of
from riskmon.core.permits import Permit, Permits
from riskmon.core.scopes import (
    ACCOUNT,
    Scope,
    asset_scope,
    kind_of,
    strategy_scope,
    symbol_scope,
    venue_scope,
)
from riskmon.core.unknown import Unknown

PERMIT_NS = 5 * 10**9


def check(
    board: Board, facts: Facts, permits: Permits, order: Check, scopes: list[Scope]
) -> CheckAnswer:
    """Judge one order; an allowed one is reserved, and takes a permit at level probe."""
    levels = board.levels
    level = min([levels.get(scope, HALT) for scope in scopes])
    if order.id is not None and not order.simulate:
        known = _answered(facts, order, LEVEL_NAMES[level])
        if known is not None:
            return known
    intent = facts.intent(order)
    shut: list[Violation] = []
    permit: Permit | None = None
    if level < PROBE or order.reduce_only or order.close_position:
        if level == HALT and facts.closing(intent).reduces:
            permit = permits.find(order, [*board.folded(scopes)], abs(intent.quantity))
        is_shut = permit is None and _is_shut(board, facts, intent, scopes, level)
        shut = _shut(board, scopes) if is_shut else _enlarges(facts, intent)
    reasons = _oversized(board, facts, intent, scopes)
    reasons += _barred(board, facts, intent, scopes)
    if shut:
        reasons = _merge(shut, reasons)
    if level == PROBE and not reasons:
        reasons = _take_permits(board, scopes, simulate=order.simulate)
    answer = CheckAnswer(allowed=not reasons, level=LEVEL_NAMES[level], reasons=reasons)
    if order.simulate:
        return answer
    if reasons:
        facts.orders.refuse(order, answer, facts.now_ns)
        return answer
    facts.orders.reserve(_reservation(intent, answer.level), facts.now_ns)
    _count(board, facts, intent, scopes)
    if permit is not None:
        permits.use(permit, order)
    return answer


def checked_scopes(order: Check) -> list[Scope]:
    """The scopes that must all permit an order."""
    scopes = [ACCOUNT, venue_scope(order.venue), symbol_scope(order.symbol)]
    return [*scopes, strategy_scope(order.strategy)] if order.strategy else scopes


def _is_shut(board: Board, facts: Facts, intent: Intent, scopes: list[Scope], level: int) -> bool:
    """Whether the level of its scopes refuses an order."""
    if level != REDUCE_ONLY:
        return level == HALT
    return not (facts.closing(intent).reduces or _hedges(board, facts, intent, scopes))


def _hedges(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> bool:
    """Whether an order lowers the delta of each asset whose size alone holds its scopes.

    A delta is lowered in other symbols too, and at venues where nothing of it is held.
    """
    holding = [breaker for breaker in board.over(scopes) if breaker.level < PROBE]
    for breaker in holding:
        limit = breaker.limit
        if not isinstance(limit, SizeLimit) or kind_of(limit.scope) != "asset":
            return False
        if breaker.state.halted or not breaker.state.blocking:
            return False
        size = limit.size(facts, intent)
        if type(size) is Unknown or size[1] >= size[0]:
            return False
    return True


def _answered(facts: Facts, order: Check, level: LevelName) -> CheckAnswer | None:
    """The answer to the same check before, unless the level of its scopes has changed since."""
    known = facts.orders.answered(order, facts.now_ns)
    if known is None:
        return None
    answer = (
        CheckAnswer(allowed=True, level=known.level)
        if isinstance(known, Reservation)
        else known.answer
    )
    return answer if answer.level == level else None


def _shut(board: Board, scopes: list[Scope]) -> list[Violation]:
    """The breakers that hold the scopes under level probe."""
    return board.violations(scopes, PROBE) + [
        Violation(limit="unregistered", scope=scope)  # only a dry run meets one
        for scope in scopes
        if scope not in board.levels
    ]


def _merge(shut: list[Violation], refusing: list[Violation]) -> list[Violation]:
    """Each limit once: with the value that the order would lead to, where there is one."""
    listed = {(one.limit, one.scope) for one in refusing}
    return [one for one in shut if (one.limit, one.scope) not in listed] + refusing


def _oversized(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> list[Violation]:
    """The limits on sizes that the order would take past their bounds."""
    found: list[Violation | None] = []
    for scope in _sized(facts, intent, scopes):
        for breaker in board.sizing.get(scope, ()):
            size = breaker.limit.size(facts, intent)
            if type(size) is Unknown:
                found.append(_unknown(facts, intent, breaker))
            elif (
                size[1] > breaker.bound
                and size[1] > size[0]
                and breaker.limit.is_past(size[1], breaker.bound)
            ):
                found.append(_exceed(intent, breaker, size[1]))
    return [one for one in found if one is not None] if found else []


def _barred(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> list[Violation]:
    """The limits on orders that refuse the order; it is counted, unless it is a dry run."""
    counts = not intent.order.simulate
    found: list[Violation | None] = []
    for scope in scopes:
        for breaker in board.ordering.get(scope, ()):
            value = breaker.limit.judge(facts, intent, breaker.bound)
            if counts and breaker.limit.freezes:
                _record(facts, intent, breaker)
            if type(value) is Unknown:
                found.append(_unknown(facts, intent, breaker))
            elif value > breaker.bound and breaker.limit.is_past(value, breaker.bound):
                found.append(_exceed(intent, breaker, value))
            elif counts and breaker.state.past and breaker.state.state != "disabled":
                breaker.state.end_row()
    return [one for one in found if one is not None] if found else []


def _record(facts: Facts, intent: Intent, breaker: Breaker[OrderLimit]) -> None:
    """Count a checked order, whether it is refused or not; too many freeze the scope."""
    count = None if breaker.state.state == "disabled" else breaker.limit.record(facts, intent)
    if count is not None:
        reason = breaker.limit.describe(count, breaker.bound)
        breaker.open("breach_freeze", reason, value=count)


def _sized(facts: Facts, intent: Intent, scopes: list[Scope]) -> list[Scope]:
    """The scopes whose sizes an order changes: with its assets, and the symbol of its position."""
    if intent.symbol != intent.order.symbol:
        own, position = symbol_scope(intent.order.symbol), symbol_scope(intent.symbol)
        scopes = [position if scope == own else scope for scope in scopes]
    if not facts.by_asset:
        return scopes
    assets = assets_of(intent.order, facts.book.reference)
    return [*scopes, *map(asset_scope, assets)]


def _enlarges(facts: Facts, intent: Intent) -> list[Violation]:
    """Why an order that may only reduce is refused: it would do more than close."""
    order = intent.order
    if not (order.reduce_only or order.close_position):
        return []
    closing = facts.closing(intent)
    if closing.reduces:
        return []
    against = closing.held < 0 if order.side == "buy" else closing.held > 0
    violation = Violation(
        limit="reduce_only",
        scope=symbol_scope(order.symbol),
        value=abs(intent.quantity) + closing.reserved,
        bound=abs(closing.held) if against else 0.0,
    )
    return [violation]


def _exceed(intent: Intent, breaker: Breaker[Limit], value: float) -> Violation | None:
    """The order would take a limit past its bound: refuse it, and count the breach."""
    if breaker.state.state == "disabled":
        return None
    if not intent.order.simulate:
        breaker.exceed(value)
    if not breaker.rule.refuses:
        return None
    return breaker.violated_by(value, breaker.limit.utilization(value, breaker.bound))


def _unknown(facts: Facts, intent: Intent, breaker: Breaker[Limit]) -> Violation | None:
    """A limit whose value with the order is unknown refuses it, unless it only closes."""
    rule = breaker.rule
    if breaker.state.state == "disabled" or rule.params.on_unknown == "ignore" or not rule.refuses:
        return None
    return None if facts.closing(intent).reduces else breaker.violated_by(None, None)


def _reservation(intent: Intent, level: LevelName) -> Reservation:
    """The reservation of a permitted order."""
    order, worth, quantity = intent.order, intent.worth, abs(intent.quantity)
    return Reservation(
        venue=order.venue,
        symbol=order.symbol,
        side=order.side,
        quantity=quantity,
        notional=whole(worth.notional, quantity),
        base=whole(worth.base, quantity),
        id=order.id or "",
        position=intent.symbol if intent.symbol != order.symbol else None,
        leg=order.leg,
        strategy=order.strategy,
        reduce_only=order.reduce_only or order.close_position,
        check=order if order.id is not None else None,
        level=level,
    )


def _count(board: Board, facts: Facts, intent: Intent, scopes: list[Scope]) -> None:
    """Count a permitted order in the limits on orders."""
    for scope in scopes:
        for breaker in board.counting.get(scope, ()):
            breaker.limit.commit(facts, intent, breaker.bound)
    if board.half_open:
        for scope in scopes:
            for breaker in board.ordering.get(scope, ()):
                breaker.probe(good=True)  # a good order is the only sample of such a limit


def _take_permits(board: Board, scopes: list[Scope], *, simulate: bool) -> list[Violation]:
    """Take one permit of each half-open breaker; those that have none left."""
    probing: list[Breaker[Limit]] = [
        breaker for breaker in board.over(scopes) if breaker.state.state == "half_open"
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
