"""Limits on silence: a venue of which nothing is heard, a strategy that no longer beats.

Silence brings no events, so time evaluates it: when it passes the bound, and where ``breaches``
asks for more evaluations in a row, once a second from then on. ``max = 5`` with ``breaches = 3``
acts after 7 seconds of silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Le

from riskmon.core.constraints import MAX_SECONDS, Scope, Seconds, must
from riskmon.core.events import STREAMS
from riskmon.core.limits.policy import Bound, Ceiling, Policy, Recover
from riskmon.core.limits.schedule import CeilingSlots

if TYPE_CHECKING:
    from riskmon.core.limits.facts import Facts

_STREAM = must(STREAMS.__contains__, f"must be one of {', '.join(STREAMS)}")
AGAIN_NS = 10**9  # from one evaluation past the bound to the next, while more are needed


@dataclass(frozen=True, kw_only=True)
class StalenessParams(Ceiling):
    """``max`` in seconds; ``streams`` are types of events, () is any."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["venue"] = "venue"
    streams: tuple[Annotated[str, _STREAM], ...] = ()
    recover: Recover = "clear"


class Staleness:
    """Seconds since a venue's last event of its streams, from its first event of any on.

    riskmon heard nobody while it was away: no silence is longer than since its start.
    """

    kind: ClassVar[str] = "staleness"
    category: ClassVar[str] = "venue"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    ages: ClassVar[bool] = True
    again_ns: ClassVar[int] = AGAIN_NS
    hears: ClassVar[bool] = True  # wants to know of every event of its venue
    Params: ClassVar[type[StalenessParams]] = StalenessParams

    def __init__(self, params: StalenessParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("heard:" + scope.partition(":")[2],)

    def value(self, facts: Facts, scope: str) -> float | None:
        """The silence in seconds; None before the venue's first event."""
        last_ns = self._last_ns(facts, scope)
        return None if last_ns is None else (facts.now_ns - last_ns) / 1e9

    def _last_ns(self, facts: Facts, scope: str) -> int | None:
        heard = facts.heard_ns.get(scope.partition(":")[2])
        if not heard:
            return None
        # A stream that never came is silent since the venue's first event of any.
        streams = self.params.streams or heard
        first_ns = facts.since_ns.get(scope, 0)
        last_ns = max((heard[stream] for stream in streams if stream in heard), default=first_ns)
        return max(last_ns, facts.started_ns)

    def wake_ns(self, facts: Facts, scope: str, bound: float) -> int | None:
        """When the silence will mean something else than it does now."""
        last_ns = self._last_ns(facts, scope)
        return None if last_ns is None else _next_ns(self.params, bound, last_ns, facts.now_ns)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        streams = ", ".join(self.params.streams) or "event"
        return f"no {streams} of {scope} for {value:.1f} s, over {bound:g} s"


@dataclass(frozen=True, kw_only=True)
class HeartbeatParams(Ceiling):
    """``max`` in seconds."""

    max: Annotated[Bound, Le(MAX_SECONDS)]
    overrides: dict[Scope, Seconds] = field(default_factory=dict)  # by scope, at any time of day
    schedule: CeilingSlots[Seconds] = ()
    per: Literal["strategy"] = "strategy"
    recover: Recover = "clear"


class Heartbeat:
    """Seconds since a strategy's last heartbeat: armed by the first, disarmed by a final one.

    As a venue's silence, none is longer than since riskmon's start.
    """

    kind: ClassVar[str] = "heartbeat"
    category: ClassVar[str] = "strategy"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    ages: ClassVar[bool] = True
    again_ns: ClassVar[int] = AGAIN_NS
    Params: ClassVar[type[HeartbeatParams]] = HeartbeatParams

    def __init__(self, params: HeartbeatParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("beat:" + scope.partition(":")[2],)

    def value(self, facts: Facts, scope: str) -> float | None:
        """The silence in seconds; None while the strategy is not armed."""
        beat_ns = self._last_ns(facts, scope)
        return None if beat_ns is None else (facts.now_ns - beat_ns) / 1e9

    def _last_ns(self, facts: Facts, scope: str) -> int | None:
        beat_ns = facts.beats_ns.get(scope.partition(":")[2])
        return None if beat_ns is None else max(beat_ns, facts.started_ns)

    def wake_ns(self, facts: Facts, scope: str, bound: float) -> int | None:
        """When the silence will mean something else than it does now."""
        beat_ns = self._last_ns(facts, scope)
        return None if beat_ns is None else _next_ns(self.params, bound, beat_ns, facts.now_ns)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"no heartbeat of {scope} for {value:.1f} s, over {bound:g} s"


def _next_ns(params: Policy, bound: float, last_ns: int, now_ns: int) -> int | None:
    """When a silence that began at ``last_ns`` reaches its next level: a silence grows with no
    event to say so, so each level has to be looked at when it comes."""
    near_ns = round(bound * params.warn * 1e9)
    if near_ns / 1e9 / bound < params.warn:
        near_ns += 1  # the nanosecond before was rounded to
    past_ns = round(bound * 1e9) + 1
    not_clear_ns = round(bound * params.clear * 1e9) if params.clear < 1 else past_ns
    due_ns = [last_ns + level for level in (near_ns, not_clear_ns, past_ns)]
    if now_ns >= due_ns[2]:
        return None
    # A timer stands when something is heard before it rings, so it must not be later than the
    # first level of a silence that begins now.
    return min(now_ns + min(near_ns, not_clear_ns), *(at_ns for at_ns in due_ns if at_ns > now_ns))
