"""The calls of an operator: what they change, and when they are refused.

A refusal changes nothing and says why. ``unfreeze`` and ``reset`` need the generation that the
operator has seen, so that they cannot undo a later trip. A breaker that is in the state of the call
already is left as it is, and the answer says so; where another call must come first, the refusal
names it. ``freeze`` alone is never refused: it registers a scope that nothing has named.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

from msgspec import convert
from msgspec.structs import replace

from riskmon.core.book.portfolio import Portfolio
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.rules import MANUAL, REFERENCE, WITHOUT_LIMIT
from riskmon.core.breakers.state import BreakerState
from riskmon.core.breakers.transitions import LOOSENS, TRANSITIONS
from riskmon.core.config import FREEZES
from riskmon.core.constraints import MAX_SECONDS, SCOPE_HINT, is_scope
from riskmon.core.decisions import (
    LEVEL_NAMES,
    AddressedBreaker,
    OperateAnswer,
    Record,
    StateName,
    Violation,
)
from riskmon.core.events import Operate
from riskmon.core.limits.limit import Limit, StateLimit, Unmeasured
from riskmon.core.scopes import Scope
from riskmon.core.topics import EQUITY
from riskmon.core.unknown import Unknown

_RESET = "reset it"
_ENABLE = "it is out of service: enable it"
# The call that must come first, by action and by a state that the action has no way from.
_FIRST: dict[str, dict[StateName, str]] = {
    "trip": {"disabled": f"{_ENABLE} first, or freeze it"},
    "unfreeze": {"open": _RESET, "half_open": _RESET, "disabled": _ENABLE},
    "reset": {"frozen": "unfreeze it", "disabled": _ENABLE},
    "disable": {
        "open": "reset it first",
        "half_open": "reset it first",
        "frozen": "unfreeze it first",
    },
    "enable": {"open": _RESET, "half_open": _RESET, "frozen": "unfreeze it"},
}


class _RefusedError(Exception):
    def __init__(
        self,
        detail: str,
        status: Literal[400, 404, 409] = 409,
        *,
        near: list[str] | None = None,
        would_trip: list[Violation] | None = None,
    ) -> None:
        self.answer = OperateAnswer(
            status=status, detail=detail, near=near or [], would_trip=would_trip or []
        )


def operate(board: Board, book: Portfolio, call: Operate, max_scopes: int) -> OperateAnswer:
    """Carry out an operator's call, or refuse it; both enter the audit trail."""
    breakers: list[Breaker[Limit]] = []
    try:
        new = _register(board, book, call, max_scopes)
        breakers = _addressed(board, call)
        _permit(board, book, call, breakers)
        detail = "; ".join(filter(None, (new, _left_alone(call, breakers))))
        if not call.preview:
            _carry_out(book, call, breakers)
        answer = OperateAnswer(status=200, detail=detail)
    except _RefusedError as refusal:
        answer = refusal.answer
    answer = replace(
        answer,
        generation=board.state.generation,
        level=LEVEL_NAMES[board.levels.get(Scope(call.scope), 0)],
        breakers=convert([b.state for b in breakers], list[AddressedBreaker], from_attributes=True),
    )
    if not call.preview and (call.recorded or answer.status == 200):
        _record(board, call, answer)
    return answer


def _carry_out(book: Portfolio, call: Operate, breakers: list[Breaker[Limit]]) -> None:
    if call.rebase and call.action in LOOSENS:
        book.rebase()
    for breaker in breakers:
        if call.action in ("freeze", "trip"):
            breaker.open(call.action, call.reason, by=call.by)
        elif call.action == "disable":
            breaker.disable(call.for_seconds, call.by)
        elif call.action != "permit":
            breaker.close(call.action, call.reason, by=call.by)


def _record(board: Board, call: Operate, answer: OperateAnswer) -> None:
    outcome = answer.detail
    if answer.status == 200:
        outcome = f"done: {outcome}" if outcome else "done"
    board.emit(
        Record(
            id=board.state.next_operation_id(),
            kind="operation",
            at_ns=board.clock.instant.wall_ns,
            scope=call.scope,
            limit=call.limit,
            generation=answer.generation,
            reason=call.reason,
            by=call.by,
            peer=call.peer,
            action=call.action,
            outcome=outcome,
        )
    )


# -- addressed breakers ----------------------------------------------------------------------------


def _register(board: Board, book: Portfolio, call: Operate, max_scopes: int) -> str:
    """Register the scope of a freeze if nothing has named it yet; that it was unknown, in words."""
    scopes, scope = board.state.scopes, Scope(call.scope)
    if scope in scopes:
        return ""
    near = _near(call.scope, scopes)
    if call.action != "freeze" or not call.registers or call.limit not in (None, MANUAL):
        raise _RefusedError(f"no scope {call.scope!r}", 404, near=near)
    if not is_scope(call.scope):
        raise _RefusedError(f"{call.scope!r} is no scope: {SCOPE_HINT}", 400)
    if len(scopes) >= max_scopes + FREEZES:
        raise _RefusedError(
            f"no room for {call.scope!r} beside {len(scopes)} scopes: no event and no order may "
            "name it; freeze the account, or raise max_scopes"
        )
    if not call.preview:
        topics = board.register(scope, first=False)
        book.dirty.update(dict.fromkeys(topics, True))
    like = f"; known are {', '.join(near)}" if near else ""
    return f"{call.scope} was unknown and is registered{like}"


def _addressed(board: Board, call: Operate) -> list[Breaker[Limit]]:
    scope = Scope(call.scope)
    if call.action in ("freeze", "trip") and call.limit in (None, MANUAL):
        if call.preview and board.find(MANUAL, scope) is None:
            rule, state = WITHOUT_LIMIT[MANUAL], BreakerState(MANUAL, scope)
            return [Breaker(rule, Unmeasured(rule.params, scope), state, board)]
        return [board.without_limit(MANUAL, scope)]
    here = board.by_scope.get(scope, [])
    if call.limit is None:
        return [breaker for breaker in here if _concerns(call.action, breaker)]
    found = [breaker for breaker in here if breaker.rule.name == call.limit]
    if not found:
        near = _near(call.limit, [breaker.rule.name for breaker in here])
        raise _RefusedError(f"no limit {call.limit!r} over {call.scope}", 404, near=near)
    return found


def _concerns(action: str, breaker: Breaker[Limit]) -> bool:
    if action in (*LOOSENS, "enable"):
        return (breaker.state.state, action) in TRANSITIONS
    return breaker.rule.name not in WITHOUT_LIMIT


def _near(name: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(name, list(known), n=3, cutoff=0.4)


# -- refusals --------------------------------------------------------------------------------------


def _permit(board: Board, book: Portfolio, call: Operate, breakers: list[Breaker[Limit]]) -> None:
    barred = _FIRST.get(call.action, {})
    wrong = [
        f"{_names([breaker])} is {breaker.state.state}: {barred[breaker.state.state]}"
        for breaker in breakers
        if breaker.state.state in barred
    ]
    if wrong:
        raise _RefusedError("; ".join(wrong))
    if call.action == "disable":
        _permit_disabling(call, breakers)
    if call.rebase and call.action != "freeze":
        _permit_rebasing(board, book, call)
    if call.action in LOOSENS:
        _permit_loosening(board, call, breakers)


def _permit_disabling(call: Operate, breakers: list[Breaker[Limit]]) -> None:
    pseudo = [b for b in breakers if b.rule.name in WITHOUT_LIMIT]
    if pseudo:
        raise _RefusedError(f"{_names(pseudo)} is no limit: it is never out of service")
    if not 0 < call.for_seconds <= MAX_SECONDS:
        raise _RefusedError("`for` must be above 0 and at most 1e9 seconds")


def _permit_rebasing(board: Board, book: Portfolio, call: Operate) -> None:
    if call.action not in LOOSENS:
        raise _RefusedError(f"`rebase` goes with reset and unfreeze, not with {call.action}")
    equity = book.settled_equity
    if isinstance(equity, Unknown):
        reason = equity.text(board.clock.instant.now_ns)
        raise _RefusedError(f"cannot rebase, equity is unknown: {reason}")
    if equity <= 0:
        raise _RefusedError(f"cannot rebase: equity is {equity:.12g}, and capital is above 0")


def _left_alone(call: Operate, breakers: list[Breaker[Limit]]) -> str:
    """The addressed breakers that the call leaves as they are, in words."""
    if not breakers:
        only = ": only rebased" if call.rebase else ""
        return f"nothing over {call.scope} to {call.action}{only}"
    idle = [b for b in breakers if (b.state.state, call.action) not in TRANSITIONS]
    told = [f"{_names([breaker])} is {breaker.state.state} already" for breaker in idle]
    if call.rebase and call.action == "freeze":
        told.append("a freeze does not rebase")
    return "; ".join(told)


def _permit_loosening(board: Board, call: Operate, breakers: list[Breaker[Limit]]) -> None:
    if call.generation is None:
        raise _RefusedError("give the generation that you have seen (GET /v1/state)")
    changed = [b for b in breakers if b.state.generation > call.generation]
    if changed:
        raise _RefusedError(
            f"{_names(changed)} changed since generation {call.generation}: look again"
        )
    unconfirmed = [b for b in breakers if not board.cancels.is_confirmed(b.state.incident)]
    held = [b for b in breakers if b.rule.name == REFERENCE and b.state.state == "open"]
    if held and not call.rebase:
        raise _RefusedError(f"{_names(held)} needs a rebase: {held[0].state.reason}")
    if unconfirmed and not call.force:
        raise _RefusedError(
            f"the cancel of {_names(unconfirmed)} is not confirmed: orders may rest; "
            "wait, or use force",
        )
    again = [breaker for breaker in breakers if _would_trip(call, breaker)]
    if again:
        or_rebase = "" if call.rebase else ", or rebase"
        raise _RefusedError(
            f"{_names(again)} would trip again at once: let the cause pass{or_rebase}",
            would_trip=[breaker.violation() for breaker in again],
        )


def _would_trip(call: Operate, breaker: Breaker[Limit]) -> bool:
    limit, value = breaker.limit, breaker.state.value
    if not (breaker.rule.shuts and isinstance(limit, StateLimit)) or value is None:
        return False
    return limit.is_past(value, breaker.bound) and not (call.rebase and EQUITY in limit.topics)


def _names(breakers: list[Breaker[Limit]]) -> str:
    return ", ".join(f"{breaker.rule.name} over {breaker.state.scope}" for breaker in breakers)
