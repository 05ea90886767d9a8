"""What an operator may do, and what he is refused.

A refusal changes nothing and says why. What loosens (``unfreeze``, ``reset``) needs the generation
that the operator has seen, so that nobody undoes a trip he does not know of. A breaker that is
where the call wants it already is left as it is, and the answer says so; where another call must
come first, the refusal names it. ``freeze`` alone is never refused.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from riskmon.core.book.portfolio import Portfolio
from riskmon.core.breakers.breaker import TRANSITIONS, Breaker
from riskmon.core.breakers.rules import MANUAL, PSEUDO, utilization
from riskmon.core.breakers.transitions import Trips
from riskmon.core.constraints import MAX_SECONDS
from riskmon.core.decisions import (
    LEVEL_NAMES,
    AddressedBreaker,
    BreakerState,
    OperateAnswer,
    Record,
    Violation,
)
from riskmon.core.events import Operate
from riskmon.core.unknown import Unknown

_LOOSENS = {"unfreeze": ("frozen",), "reset": ("open", "half_open")}
_RESET = "reset it"
_ENABLE = "it is out of service: enable it"
# What must be done first, for each state that an action has no way from.
_FIRST: dict[str, dict[BreakerState, str]] = {
    "trip": {"disabled": f"{_ENABLE} first, or freeze it"},
    "unfreeze": {"open": _RESET, "half_open": _RESET, "disabled": _ENABLE},
    "reset": {"frozen": "unfreeze it", "disabled": _ENABLE},
    "disable": {
        "open": f"{_RESET} first",
        "half_open": f"{_RESET} first",
        "frozen": "unfreeze it first",
    },
    "enable": {"open": _RESET, "half_open": _RESET, "frozen": "unfreeze it"},
}


class _RefusedError(Exception):
    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.more = status, detail, more


def operate(trips: Trips, book: Portfolio, call: Operate) -> OperateAnswer:
    """Carry out an operator's call, or refuse it; both enter the audit trail."""
    breakers: list[Breaker] = []
    try:
        breakers = _addressed(trips, call)
        _permit(trips, book, call, breakers)
        detail = _left_alone(call, breakers)
        if not call.preview:
            _ACTIONS[call.action](trips, book, call, breakers)
        answer = _answer(trips, call, breakers, status=200, detail=detail)
    except _RefusedError as refusal:
        answer = _answer(
            trips, call, breakers, status=refusal.status, detail=refusal.detail, **refusal.more
        )
    if not call.preview and (call.recorded or answer.status == 200):
        _record(trips, call, answer)
    return answer


# -- whom it addresses ----------------------------------------------------------------------------


def _addressed(trips: Trips, call: Operate) -> list[Breaker]:
    if call.scope not in trips.board.state.scopes:
        raise _RefusedError(
            404, f"no scope {call.scope!r}", near=_near(call.scope, trips.board.state.scopes)
        )
    if call.action in ("freeze", "trip") and call.limit in (None, MANUAL):
        if call.preview and call.scope not in trips.board.state.breakers.get(MANUAL, {}):
            return [Breaker(MANUAL, call.scope)]
        return [trips.board.breaker(MANUAL, call.scope)]
    here = trips.board.by_scope.get(call.scope, [])
    if call.limit is None:
        return [breaker for breaker in here if _concerns(call.action, breaker)]
    found = [breaker for breaker in here if breaker.limit == call.limit]
    if not found:
        known = [breaker.limit for breaker in here]
        raise _RefusedError(
            404, f"no limit {call.limit!r} over {call.scope}", near=_near(call.limit, known)
        )
    return found


def _concerns(action: str, breaker: Breaker) -> bool:
    if action in _LOOSENS:
        return breaker.state in _LOOSENS[action]
    if action == "enable":
        return breaker.state == "disabled"
    return breaker.limit not in PSEUDO


def _near(name: str, known: Any) -> list[str]:
    return get_close_matches(name, list(known), n=3, cutoff=0.4)


# -- whether it may be ----------------------------------------------------------------------------


def _permit(trips: Trips, book: Portfolio, call: Operate, breakers: list[Breaker]) -> None:
    barred = _FIRST.get(call.action, {})
    wrong = [
        f"{_names([breaker])} is {breaker.state}: {barred[breaker.state]}"
        for breaker in breakers
        if breaker.state in barred
    ]
    if wrong:
        raise _RefusedError(409, "; ".join(wrong))
    if call.action == "disable":
        _permit_disabling(call, breakers)
    if call.rebase and call.action != "freeze":
        _permit_rebasing(book, call)
    if call.action in _LOOSENS:
        _permit_loosening(trips, call, breakers)


def _permit_disabling(call: Operate, breakers: list[Breaker]) -> None:
    pseudo = [b for b in breakers if b.limit in PSEUDO]
    if pseudo:
        raise _RefusedError(409, f"{_names(pseudo)} is no limit: it is never out of service")
    if not 0 < call.for_seconds <= MAX_SECONDS:
        raise _RefusedError(409, "`for` must be above 0 and at most 1e9 seconds")


def _permit_rebasing(book: Portfolio, call: Operate) -> None:
    if call.action not in _LOOSENS:
        raise _RefusedError(409, f"`rebase` goes with reset and unfreeze, not with {call.action}")
    equity = book.judged
    if isinstance(equity, Unknown):
        raise _RefusedError(409, f"cannot rebase, equity is unknown: {equity.reason}")
    if equity <= 0:
        raise _RefusedError(409, f"cannot rebase: equity is {equity:g}, and capital is above 0")


def _left_alone(call: Operate, breakers: list[Breaker]) -> str:
    """Which of the addressed breakers the call leaves as they are, in words."""
    if not breakers:
        only = ": only rebased" if call.rebase else ""
        return f"nothing over {call.scope} to {call.action}{only}"
    idle = [b for b in breakers if (b.state, call.action) not in TRANSITIONS]
    told = [f"{_names([breaker])} is {breaker.state} already" for breaker in idle]
    if call.rebase and call.action == "freeze":
        told.append("a freeze does not rebase")
    return "; ".join(told)


def _permit_loosening(trips: Trips, call: Operate, breakers: list[Breaker]) -> None:
    if call.generation is None:
        raise _RefusedError(409, "give the generation that you have seen (GET /v1/state)")
    changed = [b for b in breakers if b.generation > call.generation]
    if changed:
        raise _RefusedError(
            409, f"{_names(changed)} changed since generation {call.generation}: look again"
        )
    unconfirmed = [b for b in breakers if not trips.cancels.is_confirmed(b.incident)]
    if unconfirmed and not call.force:
        raise _RefusedError(
            409,
            f"the cancel of {_names(unconfirmed)} is not confirmed: orders may rest; "
            "wait, or use force",
        )
    again = [blame for b in breakers if (blame := _would_trip(trips, call, b)) is not None]
    if again:
        what = ", ".join(f"{blame.limit} over {blame.scope}" for blame in again)
        raise _RefusedError(
            409,
            f"{what} would trip again at once: let the cause pass"
            f"{', or rebase' if not call.rebase else ''}",
            would_trip=again,
        )


def _would_trip(trips: Trips, call: Operate, breaker: Breaker) -> Violation | None:
    rule = trips.board.rules.get(breaker.limit)
    if rule is None or not rule.limit.standing or breaker.value is None:
        return None
    if call.rebase and "equity" in rule.limit.topics(breaker.scope):
        return None
    bound, floor = breaker.bound or 0.0, trips.board.is_floor(breaker)
    past = breaker.value < bound if floor else breaker.value > bound
    if not past or rule.params.on_breach not in ("trip", "freeze"):
        return None
    return Violation(
        limit=breaker.limit,
        scope=breaker.scope,
        value=breaker.value,
        bound=bound,
        utilization=utilization(breaker.value, bound, floor),
    )


# -- doing it -------------------------------------------------------------------------------------


def _shut(trips: Trips, book: Portfolio, call: Operate, breakers: list[Breaker]) -> None:
    cause = "freeze" if call.action == "freeze" else "trip"
    for breaker in breakers:
        trips.shut(breaker, cause, call.reason, by=call.by)  # type: ignore[arg-type]


def _loosen(trips: Trips, book: Portfolio, call: Operate, breakers: list[Breaker]) -> None:
    if call.rebase:
        book.rebase()
    for breaker in breakers:
        trips.loosen(breaker, call.action, call.reason, by=call.by)


def _disable(trips: Trips, book: Portfolio, call: Operate, breakers: list[Breaker]) -> None:
    for breaker in breakers:
        trips.disable(breaker, call.for_seconds, call.by)


def _enable(trips: Trips, book: Portfolio, call: Operate, breakers: list[Breaker]) -> None:
    for breaker in breakers:
        trips.loosen(breaker, "enable", call.reason, by=call.by)


_ACTIONS = {
    "freeze": _shut,
    "trip": _shut,
    "unfreeze": _loosen,
    "reset": _loosen,
    "disable": _disable,
    "enable": _enable,
}

# -- telling --------------------------------------------------------------------------------------


def _names(breakers: list[Breaker]) -> str:
    return ", ".join(f"{breaker.limit} over {breaker.scope}" for breaker in breakers)


def _answer(
    trips: Trips,
    call: Operate,
    breakers: list[Breaker],
    *,
    status: int,
    detail: str,
    near: list[str] | None = None,
    would_trip: list[Violation] | None = None,
) -> OperateAnswer:
    return OperateAnswer(
        status=status,  # type: ignore[arg-type]
        detail=detail,
        generation=trips.board.state.generation,
        level=LEVEL_NAMES[trips.board.levels.get(call.scope, 0)],
        breakers=[
            AddressedBreaker(
                limit=breaker.limit,
                scope=breaker.scope,
                state=breaker.state,
                generation=breaker.generation,
                reason=breaker.reason,
                incident=breaker.incident,
            )
            for breaker in breakers
        ],
        near=near or [],
        would_trip=would_trip or [],
    )


def _record(trips: Trips, call: Operate, answer: OperateAnswer) -> None:
    trips.board.state.operations_made += 1
    trips.emit(
        Record(
            id=f"op_{trips.board.state.epoch}_{trips.board.state.operations_made}",
            kind="operation",
            at_ns=trips.board.wall_ns,
            scope=call.scope,
            limit=call.limit,
            generation=answer.generation,
            reason=call.reason,
            by=call.by,
            peer=call.peer,
            action=call.action,
            outcome=answer.detail if answer.status != 200 else _done(answer.detail),
        )
    )


def _done(detail: str) -> str:
    return f"done: {detail}" if detail else "done"
