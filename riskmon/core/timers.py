"""Timers of the engine, in engine time."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

NEVER_NS = 1 << 62

# A kind of timer, and the names that it belongs to (a limit and its scope, an incident, …). Those
# of breakers are here; the names are kept in snapshots.
TimerKey = tuple[str, str, str]
RECOVERY = "wait"  # the wait of an open breaker, or its time out of service, ends
RECHECK = "look"  # a window may have cleared with time
GRACE = "unknown"  # an unknown value halts
PROBATION = "probation"
CHANGE = "wake"  # a value changes without an event
SCHEDULE = "rebound"  # the time of day moves bounds
BREAKER_TIMERS = frozenset({RECOVERY, RECHECK, GRACE, PROBATION, CHANGE, SCHEDULE})
SWEEP = "sweep"
RESERVATION = "reserve"


class Timers:
    """One timer for each key.

    An earlier one for the same key stands; its handler compares the time and arms it again. So most
    events cost no timer.
    """

    def __init__(self, armed_ns: dict[TimerKey, int]) -> None:
        self.now_ns = 0
        self.armed_ns = armed_ns
        self._heap = [(due_ns, key) for key, due_ns in armed_ns.items()]  # with old entries in it
        heapify(self._heap)

    @property
    def next_ns(self) -> int:
        return self._heap[0][0] if self._heap else NEVER_NS

    def arm(self, key: TimerKey, due_ns: int) -> None:
        """Set a timer, after the current time: a handler that arms its own key must not loop."""
        due_ns = max(due_ns, self.now_ns + 1)
        armed_ns = self.armed_ns.get(key)
        if armed_ns is None or due_ns < armed_ns:
            self.armed_ns[key] = due_ns
            heappush(self._heap, (due_ns, key))

    def disarm(self, key: TimerKey) -> None:
        self.armed_ns.pop(key, None)

    def due(self) -> Iterator[TimerKey]:
        """Remove, in order, the timers that are due by now; also those armed meanwhile."""
        heap = self._heap
        while heap and heap[0][0] <= self.now_ns:
            due_ns, key = heappop(heap)
            if self.armed_ns.get(key) == due_ns:
                del self.armed_ns[key]
                yield key
