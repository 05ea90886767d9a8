"""``metric``: any number that clients report, such as a margin ratio or a funding rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from riskmon.core.constraints import Beside, EitherThis, Name, Seconds
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import StateLimit
from riskmon.core.limits.metrics import MetricReport
from riskmon.core.limits.policy import Bound, Policy, Recover
from riskmon.core.limits.schedule import EitherSlot, EitherSlots, Slot
from riskmon.core.topics import Topic, metric_topic
from riskmon.core.unknown import Unknown


def _each_has(key: Literal["max", "min"]) -> Beside[Any]:
    """The constraint on a schedule that its slots have the key of the limit's bound."""

    def holds(slots: tuple[EitherSlot, ...], _bound: float) -> bool:
        return all((slot.max if key == "max" else slot.min) is not None for slot in slots)

    return Beside(key, holds, f"each slot must have `{key}`, as the limit")


@dataclass(frozen=True, kw_only=True)
class MetricParams(Policy):
    """Exactly one of ``max`` and ``min`` is the bound."""

    name: Name  # of the `metric` events
    max: Bound | None = None  # the value must not rise above it
    # the value must not fall below it
    min: Annotated[Bound | None, EitherThis("max")] = None
    max_age: Seconds = 300.0  # seconds after which a report does not count any more
    # from, to, and max or min, as the limit; the bound outside of them
    schedule: Annotated[EitherSlots, _each_has("max"), _each_has("min")] = ()
    per: Literal["account", "venue", "symbol", "asset", "strategy"] = "account"
    recover: Recover = "clear"

    @property
    def bound(self) -> float:
        """``max`` or ``min``."""
        return self.max or self.min or 0.0

    @property
    def floor(self) -> bool:
        """Whether the bound is ``min``."""
        return self.max is None

    def slots(self) -> tuple[Slot, ...]:
        """The bounds by time of day."""
        return tuple(slot.timed(slot.max or slot.min or 0.0) for slot in self.schedule)


class MetricLimit(StateLimit):
    """The worst fresh value of the ``metric`` events of one name that name the scope."""

    kind = "metric"
    category = "market"
    Params = MetricParams
    params: MetricParams

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The number of the scope."""
        return (metric_topic(self.scope, self.params.name),)

    def value(self, facts: Facts) -> float | Unknown:
        """The worst of the values: the highest, or for a minimum the lowest."""
        name, scope = self.params.name, self.scope
        fresh = [report.value for report in self._fresh(facts)]
        if fresh:
            return min(fresh) if self.floor else max(fresh)
        if facts.metrics.of(scope, name):
            age = f"older than {self.params.max_age:g} s"
            return Unknown(f"{name} of {scope} is {age}: report `metric` events")
        return Unknown(f"no {name} was reported for {scope}: report `metric` events")

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the first of the reports that count is too old."""
        at_ns = min((report.at_ns for report in self._fresh(facts)), default=None)
        return None if at_ns is None else at_ns + self._max_age_ns + 1

    @property
    def _max_age_ns(self) -> int:
        return int(self.params.max_age * 1e9)

    def _fresh(self, facts: Facts) -> Iterator[MetricReport]:
        oldest_ns = facts.now_ns - self._max_age_ns
        for report in facts.metrics.of(self.scope, self.params.name):
            if report.at_ns >= oldest_ns:
                yield report

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        side = "under" if self.floor else "over"
        return f"{self.params.name} of {self.scope} is {value:.12g}, {side} {bound:.12g}"
