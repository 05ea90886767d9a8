"""Permits: an operator lets one reduce-only order pass a halt or a freeze.

A permit is for one order in a symbol that lies in the permit's scope and can do no more than close.
The first such check takes it; otherwise it lapses. Both enter the line of the audit trail that the
call made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from msgspec import Struct
from msgspec.structs import replace

from riskmon.core.book.reservations import may_be
from riskmon.core.breakers.board import Board
from riskmon.core.clock import Clock
from riskmon.core.decisions import LEVEL_NAMES, Decision, OperateAnswer, Record
from riskmon.core.events import Check, Leg, Operate, Side
from riskmon.core.scopes import Scope, kind_of, symbol_scope
from riskmon.core.timers import Timer, TimerKey, Timers

PERMITS_MAX = 100  # that are neither used nor lapsed
_ROUNDING = 1.0 + 1e-9


class Permit(Struct):
    """A permit that is neither used nor lapsed. ``quantity``, ``side`` and ``leg``: None is any."""

    record: Record
    symbol: str
    until_ns: int
    side: Side | None = None
    quantity: float | None = None
    leg: Leg | None = None


class Permits:
    """The permits of an account, by the ids of their records."""

    def __init__(
        self,
        permits: dict[str, Permit],
        clock: Clock,
        timers: Timers,
        emit: Callable[[Decision], None],
    ) -> None:
        self._permits = permits
        self._clock, self._timers, self._emit = clock, timers, emit

    def grant(self, board: Board, call: Operate) -> OperateAnswer:
        """Carry out an operator's call for a permit, or refuse it; both enter the audit trail."""
        answer = self._refusal(board, call) or OperateAnswer(
            status=200, detail=f"one reduce-only order in {call.symbol}, {call.for_seconds:g} s"
        )
        answer = replace(
            answer,
            generation=board.state.generation,
            level=LEVEL_NAMES[board.levels.get(Scope(call.scope), 0)],
        )
        granted = answer.status == 200
        if call.preview or not (granted or call.recorded):
            return answer
        now = self._clock.instant
        record = Record(
            id=board.state.next_operation_id(),
            kind="operation",
            at_ns=now.wall_ns,
            scope=call.scope,
            generation=answer.generation,
            reason=call.reason,
            by=call.by,
            peer=call.peer,
            action=call.action,
            outcome=f"done: {answer.detail}" if granted else answer.detail,
        )
        self._emit(record)
        if granted:
            until_ns = now.now_ns + int(call.for_seconds * 1e9)
            self._permits[record.id] = Permit(
                record, call.symbol or "", until_ns, call.side, call.quantity, call.leg
            )
            self._timers.arm(TimerKey(Timer.PERMIT, record.id), until_ns)
        return answer

    def _refusal(self, board: Board, call: Operate) -> OperateAnswer | None:
        """Why a permit cannot be granted; None if it can."""
        scope, symbol = Scope(call.scope), symbol_scope(call.symbol or "")
        for name in (scope, symbol):
            if name not in board.state.scopes:
                near = get_close_matches(name, list(board.state.scopes), n=3, cutoff=0.4)
                return OperateAnswer(status=404, detail=f"no scope {name!r}", near=near)
        names_symbols = kind_of(scope) in ("symbol", "asset")
        if names_symbols and scope not in board.folded([symbol]):
            detail = f"no order in {call.symbol} is of {scope}: name its symbol"
            return OperateAnswer(status=409, detail=detail)
        if len(self._permits) >= PERMITS_MAX:
            detail = f"{PERMITS_MAX} permits are neither used nor lapsed: wait until they lapse"
            return OperateAnswer(status=409, detail=detail)
        return None

    def find(self, order: Check, scopes: Sequence[Scope], quantity: float) -> Permit | None:
        """Return the oldest permit for an order of a quantity, in these scopes."""
        return next(
            (
                permit
                for permit in self._permits.values()
                if permit.symbol == order.symbol
                and permit.record.scope in scopes
                and permit.side in (None, order.side)
                and may_be(permit.leg, order.leg)
                and (permit.quantity is None or quantity <= permit.quantity * _ROUNDING)
                and self._clock.instant.now_ns < permit.until_ns
            ),
            None,
        )

    def use(self, permit: Permit, order: Check) -> None:
        """Use a permit up for an order."""
        self._end(permit, f"order {order.id}" if order.id else "an order without an id")

    def on_timer(self, key: TimerKey) -> None:
        """End a permit that was not used in time."""
        permit = self._permits.get(key.name)
        if permit is not None:
            self._end(permit, "time")

    def _end(self, permit: Permit, by: str) -> None:
        record = replace(permit.record, ended_at_ns=self._clock.instant.wall_ns, ended_by=by)
        del self._permits[record.id]
        self._emit(record)
