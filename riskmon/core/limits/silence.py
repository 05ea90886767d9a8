"""Limits on silence: a venue that sends no event, a strategy that sends no heartbeat.

Silence brings no events, so it is evaluated when it passes a level and, while ``breaches`` needs
more evaluations in a row, once a second from then on. ``max = 5`` with ``breaches = 3`` acts after
7 seconds of silence. No silence is longer than since the start of riskmon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Le

from riskmon.core.constraints import MAX_SECONDS, Scope, Seconds, must
from riskmon.core.events import STREAMS
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Category, StateLimit
from riskmon.core.limits.policy import Bound, Ceiling, Policy, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.topics import EVENTS, HEARTBEAT, scope_name

_STREAM = must(STREAMS.__contains__, f"must be one of {', '.join(STREAMS)}")


@dataclass(frozen=True, kw_only=True)
class StalenessParams(Ceiling):
    """``max`` in seconds; ``streams`` are types of events, () is any."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["venue"] = "venue"
    streams: tuple[Annotated[str, _STREAM], ...] = ()
    recover: Recover = "clear"


class StalenessLimit(StateLimit):
    """Seconds since a venue's last event of its streams, from its first event of any on."""

    kind: ClassVar[str] = "staleness"
    category: ClassVar[Category] = "venue"
    grows_with_time: ClassVar[bool] = True
    Params: ClassVar[type[StalenessParams]] = StalenessParams

    def __init__(self, params: StalenessParams, scope: str) -> None:
        self.params = params
        self.scope, self.venue = scope, scope_name(scope)
        self.topics = (f"{EVENTS}:{self.venue}",)

    def value(self, facts: Facts) -> float | None:
        """The silence in seconds; None before the venue's first event."""
        last_ns = self._last_ns(facts)
        return None if last_ns is None else (facts.now_ns - last_ns) / 1e9

    def _last_ns(self, facts: Facts) -> int | None:
        last_event_ns = facts.last_event_ns.get(self.venue)
        if not last_event_ns:
            return None
        # A stream that never came is silent since the venue's first event of any.
        streams = self.params.streams or last_event_ns
        came_ns = [last_event_ns[stream] for stream in streams if stream in last_event_ns]
        first_ns = facts.first_event_ns.get(self.scope, 0)
        return max(max(came_ns, default=first_ns), facts.started_ns)

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the silence passes its next level."""
        last_ns = self._last_ns(facts)
        return None if last_ns is None else _next_ns(self.params, bound, last_ns, facts.now_ns)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        streams = ", ".join(self.params.streams) or "event"
        return f"no {streams} of {self.scope} for {value:.1f} s, over {bound:g} s"


@dataclass(frozen=True, kw_only=True)
class HeartbeatParams(Ceiling):
    """``max`` in seconds."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["strategy"] = "strategy"
    recover: Recover = "clear"


class HeartbeatLimit(StateLimit):
    """Seconds since a strategy's last heartbeat: armed by the first, disarmed by a final one."""

    kind: ClassVar[str] = "heartbeat"
    category: ClassVar[Category] = "strategy"
    grows_with_time: ClassVar[bool] = True
    Params: ClassVar[type[HeartbeatParams]] = HeartbeatParams

    def __init__(self, params: HeartbeatParams, scope: str) -> None:
        self.params = params
        self.scope, self.strategy = scope, scope_name(scope)
        self.topics = (f"{HEARTBEAT}:{self.strategy}",)

    def value(self, facts: Facts) -> float | None:
        """The silence in seconds; None while the strategy is not armed."""
        last_ns = self._last_ns(facts)
        return None if last_ns is None else (facts.now_ns - last_ns) / 1e9

    def _last_ns(self, facts: Facts) -> int | None:
        last_ns = facts.last_heartbeat_ns.get(self.strategy)
        return None if last_ns is None else max(last_ns, facts.started_ns)

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the silence passes its next level."""
        last_ns = self._last_ns(facts)
        return None if last_ns is None else _next_ns(self.params, bound, last_ns, facts.now_ns)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        return f"no heartbeat of {self.scope} for {value:.1f} s, over {bound:g} s"


def _next_ns(params: Policy, bound: float, last_ns: int, now_ns: int) -> int | None:
    """When a silence that began at ``last_ns`` passes its next level (warning, clear, bound)."""
    near_ns = round(bound * params.warn * 1e9)
    if near_ns / 1e9 / bound < params.warn:
        near_ns += 1  # the nanosecond before was rounded to
    past_ns = round(bound * 1e9) + 1
    not_clear_ns = round(bound * params.clear * 1e9) if params.clear < 1 else past_ns
    due_ns = [last_ns + level for level in (near_ns, not_clear_ns, past_ns)]
    if now_ns >= due_ns[2]:
        return None
    # The timer is not moved when an event comes before it is due, so it must not be later than
    # the first level of a silence that begins now.
    return min(now_ns + min(near_ns, not_clear_ns), *(at_ns for at_ns in due_ns if at_ns > now_ns))
