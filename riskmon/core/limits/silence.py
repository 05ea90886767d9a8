"""Limits on silence: no event names a venue or a symbol, a strategy sends no heartbeat.

Silence brings no events, so it is evaluated when it passes a level and, while ``breaches`` needs
more evaluations in a row, once a second from then on. ``max = 5`` with ``breaches = 3`` acts after
7 seconds of silence. No silence is longer than since the start of riskmon.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Le

from riskmon.core.constraints import MAX_SECONDS, Beside, Scope, Seconds, must
from riskmon.core.events import STREAMS, SYMBOL_STREAMS
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import TOLERANCE, StateLimit
from riskmon.core.limits.policy import Bound, Ceiling, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.topics import Topic, events_topic, heartbeat_topic, symbol_events_topic

ALL_STREAMS = tuple(dict.fromkeys((*STREAMS, *SYMBOL_STREAMS)))
_STREAM = must(ALL_STREAMS.__contains__, f"must be one of {', '.join(ALL_STREAMS)}")


def _name(streams: tuple[str, ...], per: str) -> bool:
    """Whether events of all these types name a venue, or a symbol."""
    return set(streams) <= set(SYMBOL_STREAMS if per == "symbol" else STREAMS)


_NAMES_SCOPE: Beside[Any] = Beside(
    "per",
    _name,
    f"must be types of events that name what `per` says\nof symbols: {', '.join(SYMBOL_STREAMS)}",
)


@dataclass(frozen=True, kw_only=True)
class StalenessParams(Ceiling):
    """``max`` in seconds; ``streams`` are types of events; empty: any."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["venue", "symbol"] = "venue"
    # event types that count; all by default
    streams: Annotated[tuple[Annotated[str, _STREAM], ...], _NAMES_SCOPE] = ()
    recover: Recover = "clear"


@dataclass(frozen=True, kw_only=True)
class HeartbeatParams(Ceiling):
    """``max`` in seconds."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["strategy"] = "strategy"
    recover: Recover = "clear"


class _SilenceLimit(StateLimit):
    """Seconds since the last sign of a scope."""

    grows_with_time = True

    @abstractmethod
    def last_ns(self, facts: Facts) -> int | None:
        """When the last sign came; None before the first."""

    def value(self, facts: Facts) -> float | None:
        """The silence in seconds; None before the first sign."""
        last_ns = self.last_ns(facts)
        return None if last_ns is None else (facts.now_ns - last_ns) / 1e9

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the silence passes its next level."""
        last_ns = self.last_ns(facts)
        return None if last_ns is None else self._next_ns(bound, last_ns, facts.now_ns)

    def _next_ns(self, bound: float, last_ns: int, now_ns: int) -> int | None:
        """When a silence since ``last_ns`` passes its next level (warning, clear, bound)."""
        params = self.params
        near_ns = round(bound * params.warn * 1e9)
        if near_ns / 1e9 / bound < params.warn:
            near_ns += 1  # the nanosecond before was rounded to
        past_ns = round(bound * (1 + TOLERANCE) * 1e9)
        while not self.is_past(past_ns / 1e9, bound):
            past_ns += 1
        not_clear_ns = round(bound * params.clear * 1e9) if params.clear < 1 else past_ns
        due_ns = [last_ns + level for level in (near_ns, not_clear_ns, past_ns)]
        if now_ns >= due_ns[2]:
            return None
        # The timer is not moved when an event comes before it is due, so it must not be later than
        # the first level of a silence that begins now.
        later_ns = [at_ns for at_ns in due_ns if at_ns > now_ns]
        return min(now_ns + min(near_ns, not_clear_ns), *later_ns)


class StalenessLimit(_SilenceLimit):
    """Seconds since the last event of the streams that names a venue, or a symbol.

    They count from the scope's first event of any type on.
    """

    kind = "staleness"
    category = "venue"
    Params = StalenessParams
    params: StalenessParams

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The events that name the scope."""
        if self.params.per == "symbol":
            return (symbol_events_topic(self.name),)
        return (events_topic(self.name),)

    def last_ns(self, facts: Facts) -> int | None:
        """When the last event came; a stream without one is silent since the scope's first."""
        of_symbol = self.params.per == "symbol"
        last_ns = facts.last_symbol_event_ns if of_symbol else facts.last_event_ns
        came_ns = last_ns.get(self.name)
        if not came_ns:
            return None
        streams = self.params.streams
        seen_ns = (
            [came_ns[one] for one in streams if one in came_ns] if streams else came_ns.values()
        )
        newest_ns = max(seen_ns) if seen_ns else facts.first_event_ns.get(self.scope, 0)
        return max(newest_ns, facts.started_ns)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        streams = ", ".join(self.params.streams) or "event"
        return f"no {streams} of {self.scope} for {value:.1f} s, over {bound:g} s"


class HeartbeatLimit(_SilenceLimit):
    """Seconds since a strategy's last heartbeat: armed by the first, disarmed by a final one."""

    kind = "heartbeat"
    category = "strategy"
    Params = HeartbeatParams
    reason = "no heartbeat of {limit.scope} for {value:.1f} s, over {bound:g} s"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The heartbeats of the strategy."""
        return (heartbeat_topic(self.name),)

    def last_ns(self, facts: Facts) -> int | None:
        """When the last heartbeat came; None while the strategy is not armed."""
        last_ns = facts.last_heartbeat_ns.get(self.name)
        return None if last_ns is None else max(last_ns, facts.started_ns)
