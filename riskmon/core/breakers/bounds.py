"""Which bound holds: as it is written, by the time of day, and while on probation.

An override of a scope holds at any time. Else the slot of the schedule that holds at this time of
day, else ``max`` (``min`` for a floor). While any breaker's probation lasts, size limits stand at
its ratio of that; the lowest ratio counts when there are several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from riskmon.core.book.calendar import Zone
from riskmon.core.limits.policy import Probation
from riskmon.core.limits.schedule import bound_at, next_change_ns

if TYPE_CHECKING:
    from riskmon.core.breakers.rules import Rule

NEVER_NS = 1 << 62


class OnProbation(Struct):
    """Until when (engine time) a success holds the size limits at ``ratio``."""

    ratio: float
    until_ns: int


class BoundsState(Struct):
    """Between which two dates the bounds stay as they are, and the probations that last."""

    from_wall_ns: int = 0
    until_wall_ns: int = 0
    probations: dict[str, OnProbation] = field(default_factory=dict)  # "limit|scope"


class Bounds:
    """The bounds of all limits under a configuration."""

    def __init__(self, state: BoundsState, rules: Mapping[str, Rule], timezone: str) -> None:
        self.state = state
        self._slots = {
            name: slots for name, rule in rules.items() if (slots := rule.params.slots())
        }
        self._zone = Zone(timezone)
        self.scheduled = [rules[name] for name in self._slots]
        self.sizes = [rule for rule in rules.values() if _is_size(rule)]

    def of(self, rule: Rule, scope: str, wall_ns: int) -> float:
        """The bound that holds for a scope."""
        params, slots = rule.params, self._slots.get(rule.name)
        bound = params.overrides.get(scope)
        if bound is None and slots:
            bound = bound_at(slots, self._zone, wall_ns)
        if bound is None:
            bound = params.bound
        probations = self.state.probations
        if probations and _is_size(rule):
            bound *= min(one.ratio for one in probations.values())
        return float(bound)

    def is_due(self, wall_ns: int) -> bool:
        """Whether the date has left the time for which the bounds were found."""
        return not self.state.from_wall_ns <= wall_ns < self.state.until_wall_ns

    def move_on(self, wall_ns: int) -> None:
        """Note between which dates the bounds of now hold."""
        state = self.state
        if not self._slots:
            state.from_wall_ns, state.until_wall_ns = -NEVER_NS, NEVER_NS
            return
        changes = [next_change_ns(slots, self._zone, wall_ns) for slots in self._slots.values()]
        state.from_wall_ns, state.until_wall_ns = wall_ns, min(changes)

    def begin(self, key: str, probation: Probation, now_ns: int) -> int:
        """Begin or prolong a probation; its end."""
        until_ns = now_ns + int(probation.seconds * 1e9)
        before = self.state.probations.get(key)
        if before is not None:
            until_ns = max(until_ns, before.until_ns)
        self.state.probations[key] = OnProbation(probation.ratio, until_ns)
        return until_ns


def _is_size(rule: Rule) -> bool:
    return getattr(rule.limit, "is_size", False)
