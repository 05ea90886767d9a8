"""What a breaker leaves of its scope's permission, and how long it waits after a trip."""

from __future__ import annotations

from zlib import crc32

from riskmon.core.book.calendar import Calendar
from riskmon.core.breakers.rules import Rule
from riskmon.core.breakers.state import BreakerState
from riskmon.core.breakers.transitions import SHUT
from riskmon.core.clock import Instant
from riskmon.core.decisions import ALLOW, HALT, PROBE, REDUCE_ONLY
from riskmon.core.limits.limit import Limit
from riskmon.core.limits.policy import Recovery

PERIOD_LEAST_NS = 3_600 * 10**9  # `recover = "period"`: no sooner after the trip
CALENDAR_PERIODS = ("day", "week")  # the last hours have no end


def level_left(rule: Rule, state: BreakerState) -> int:
    """The level that a breaker leaves, with that of an unknown value."""
    level = _by_state(rule, state)
    if state.halted and state.state != "disabled":
        return min(level, rule.unknown_level)
    return level


def _by_state(rule: Rule, state: BreakerState) -> int:
    if state.state in SHUT:
        return REDUCE_ONLY if rule.params.level == "reduce_only" else HALT
    if state.state == "half_open":
        return PROBE
    if state.state == "closed" and state.blocking:
        return REDUCE_ONLY
    return ALLOW


def wait_end_ns(
    rule: Rule, limit: Limit, state: BreakerState, calendar: Calendar, instant: Instant
) -> int | None:
    """When the wait of a breaker that opens now is over; None without a wait."""
    recover, now_ns = rule.params.recover, instant.now_ns
    if isinstance(recover, Recovery):
        seconds = recover.seconds(state.trips_in_row)
        # The jitter comes from the incident's id, so that a replay waits as long.
        chance = crc32((state.incident or "").encode()) / 2**32
        seconds = min(recover.max, seconds * (1 + recover.jitter * chance))
        return now_ns + int(seconds * 1e9)
    if recover == "period" and limit.period in CALENDAR_PERIODS:
        _, end_wall_ns = calendar.span(limit.period, instant.wall_ns)
        # A loss minutes before the period's end does not recover at that end.
        return max(now_ns + end_wall_ns - instant.wall_ns, now_ns + PERIOD_LEAST_NS)
    return None
