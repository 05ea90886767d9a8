"""Calls that were asked for: what wants to be looked at when, though nothing happens."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

NEVER_NS = 1 << 62

TimerKey = tuple[str, str, str]  # what it is, and of whom


class Timers:
    """One timer for each key, in engine time.

    An earlier one for the same thing stands: what it wakes looks whether it is due, and asks
    again. So most events cost no timer.
    """

    def __init__(self, armed_ns: dict[TimerKey, int]) -> None:
        self.now_ns = 0
        self.armed_ns = armed_ns
        self._heap = [(due_ns, key) for key, due_ns in armed_ns.items()]  # with old entries in it
        heapify(self._heap)

    @property
    def next_ns(self) -> int:
        """When somebody wants to be called."""
        return self._heap[0][0] if self._heap else NEVER_NS

    def arm(self, key: TimerKey, due_ns: int) -> None:
        """Ask for a call at ``due_ns``."""
        # Never for now: what asks again for a time that has come must not hold time up.
        due_ns = max(due_ns, self.now_ns + 1)
        armed_ns = self.armed_ns.get(key)
        if armed_ns is None or due_ns < armed_ns:
            self.armed_ns[key] = due_ns
            heappush(self._heap, (due_ns, key))

    def disarm(self, key: TimerKey) -> None:
        """Ask for no call."""
        self.armed_ns.pop(key, None)

    def due(self) -> Iterator[TimerKey]:
        """Take out, in order, what is due by now; also what is armed meanwhile."""
        heap = self._heap
        while heap and heap[0][0] <= self.now_ns:
            due_ns, key = heappop(heap)
            if self.armed_ns.get(key) == due_ns:
                del self.armed_ns[key]
                yield key
