"""Which bound holds: as it is written, by the time of day, and while on probation.

An override of a scope holds at any time. Else the slot of the schedule that holds at this time of
day, else ``max`` (``min`` for a floor). While any breaker's probation lasts, size limits stand at
its ratio of that; the lowest ratio counts when there are several.
"""

from __future__ import annotations

from collections.abc import Iterable

from riskmon.core.book.calendar import Zone
from riskmon.core.breakers.rules import Rule
from riskmon.core.breakers.state import BoundsState, OnProbation
from riskmon.core.limits.policy import Probation
from riskmon.core.limits.schedule import bound_at, next_change_ns
from riskmon.core.scopes import Scope
from riskmon.core.timers import NEVER_NS, TimerKey


class Bounds:
    """The bounds of all limits under a configuration."""

    def __init__(self, state: BoundsState, rules: Iterable[Rule], timezone: str) -> None:
        self.state = state
        self._zone = Zone(timezone)
        self.scheduled = [rule for rule in rules if rule.slots]

    def of(self, rule: Rule, scope: Scope, wall_ns: int) -> float:
        """The bound that holds for a scope."""
        bound = rule.params.overrides.get(scope)
        if bound is None and rule.slots:
            bound = bound_at(rule.slots, self._zone, wall_ns)
        if bound is None:
            bound = rule.bound
        if self.state.probations and rule.is_size:
            bound *= min(one.ratio for one in self.state.probations.values())
        return float(bound)

    def is_due(self, wall_ns: int) -> bool:
        """Whether the date has left the time for which the bounds were found."""
        return not self.state.from_wall_ns <= wall_ns < self.state.until_wall_ns

    def move_on(self, wall_ns: int) -> None:
        """Note between which dates the bounds of now hold."""
        state = self.state
        if not self.scheduled:
            state.from_wall_ns, state.until_wall_ns = -NEVER_NS, NEVER_NS
            return
        changes = [next_change_ns(rule.slots, self._zone, wall_ns) for rule in self.scheduled]
        state.from_wall_ns, state.until_wall_ns = wall_ns, min(changes)

    def begin_probation(self, timer: TimerKey, probation: Probation, now_ns: int) -> int:
        """Begin or prolong a probation; its end."""
        until_ns = now_ns + int(probation.seconds * 1e9)
        before = self.state.probations.get(_key(timer))
        if before is not None:
            until_ns = max(until_ns, before.until_ns)
        self.state.probations[_key(timer)] = OnProbation(probation.ratio, until_ns)
        return until_ns

    def end_probation(self, timer: TimerKey, now_ns: int) -> int | None:
        """End a probation; its end if that is later."""
        until_ns = self.state.probations[_key(timer)].until_ns
        if now_ns < until_ns:
            return until_ns
        del self.state.probations[_key(timer)]
        return None


def _key(timer: TimerKey) -> str:
    return f"{timer.name}|{timer.scope}"
