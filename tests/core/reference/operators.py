"""The calls of operators: what each changes, and when it is refused."""

from __future__ import annotations

from riskmon.core import events as ev
from tests.core.reference.life import HALT, Breaker
from tests.core.reference.samples import to_ns
from tests.core.reference.table import Table


class Operators:
    """The operators of an account."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.answers: list[tuple[int, int]] = []  # status, level of the scope

    def operate(self, call: ev.Operate) -> None:
        breakers = self._addressed(call)
        status = 404 if breakers is None else self._status(call, breakers)
        if status == 200 and not call.preview:
            for breaker in breakers or ():
                self._obey(breaker, call)
        self.answers.append((status, self.table.levels().get(call.scope, HALT)))
        if not call.preview:
            self.table.said.append(("operation", call.action, status == 200))

    def _addressed(self, call: ev.Operate) -> list[Breaker] | None:
        """In the order of their names; None: there is no such scope or limit."""
        if call.scope not in self.table.scopes():
            if call.action != "freeze" or call.limit not in (None, "manual"):
                return None
            if not call.preview:
                self.table.frozen_first.add(call.scope)
                self.table.make(call.scope)
        if call.action in ("freeze", "trip") and call.limit in (None, "manual"):
            if call.preview and ("manual", call.scope) not in self.table.breakers:
                return []
            return [self.table.pseudo("manual", call.scope)]
        here = sorted(self.table.over(call.scope), key=lambda breaker: breaker.name)
        if call.limit is not None:
            return [breaker for breaker in here if breaker.name == call.limit] or None
        if call.action == "disable":
            return [breaker for breaker in here if breaker.limit is not None]
        concerned = {"unfreeze": ("frozen",), "reset": ("open", "half_open")}
        states = concerned.get(call.action, ("disabled",))
        return [breaker for breaker in here if breaker.state in states]

    def _status(self, call: ev.Operate, breakers: list[Breaker]) -> int:
        """409 from a state that the call has no way from, unless it is there already."""
        ways = {
            "freeze": ("closed", "open", "half_open", "disabled", "frozen"),
            "trip": ("closed", "half_open", "open", "frozen"),
            "unfreeze": ("frozen", "closed"),
            "reset": ("open", "half_open", "closed"),
            "disable": ("closed", "disabled"),
            "enable": ("disabled", "closed"),
        }[call.action]
        refused = any(
            breaker.state not in ways
            or (call.action == "disable" and breaker.limit is None)
            or (call.action in ("unfreeze", "reset") and _may_not_loosen(breaker, call))
            for breaker in breakers
        )
        blind = call.action in ("unfreeze", "reset") and call.generation is None
        return 409 if refused or blind else 200

    def _obey(self, breaker: Breaker, call: ev.Operate) -> None:
        before, action = breaker.state, call.action
        if action == "freeze" and before != "frozen":
            self.table.shut(breaker, "frozen", "freeze")
        elif action == "trip" and before in ("closed", "half_open"):
            self.table.shut(breaker, "open", "trip")
        elif action == "unfreeze" and before == "frozen":
            self.table.loosen(breaker, "closed", "unfreeze")
        elif action == "reset" and before in ("open", "half_open"):
            self.table.loosen(breaker, "closed", "reset")
        elif action == "enable" and before == "disabled":
            self.table.loosen(breaker, "closed", "enable")
        elif action == "disable":
            self.table.change(
                breaker, "disabled", "disable", self.table.now_ns + to_ns(call.for_seconds)
            )


def _may_not_loosen(breaker: Breaker, call: ev.Operate) -> bool:
    """It changed since the operator looked, orders may rest, or it would be shut again at once."""
    return (
        call.generation is None
        or breaker.generation > call.generation
        or not (call.force or _is_confirmed(breaker))
        or _would_trip_again(breaker)
    )


def _is_confirmed(breaker: Breaker) -> bool:
    return breaker.incident is None or breaker.incident.is_confirmed()


def _would_trip_again(breaker: Breaker) -> bool:
    """A standing value that is past its bound now would trip it at its next evaluation."""
    acts = breaker.limit is not None and breaker.policy.on_breach in ("trip", "freeze")
    return breaker.is_standing and acts and breaker.is_past(breaker.value)
