"""Timers of the engine, in engine time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from riskmon.core.clock import Clock
from riskmon.core.scopes import NAMES, Scope

NEVER_NS = 1 << 62


class Timer(StrEnum):
    """What a timer is for. Each has one handler; the values are stored in snapshots."""

    # of a breaker: limit and scope
    RECOVERY = "wait"  # the wait of an open breaker, or its time out of service, ends
    RECHECK = "look"  # a window may have cleared with time
    GRACE = "unknown"  # an unknown value halts
    PROBATION = "probation"
    CHANGE = "wake"  # a value changes without an event
    LASTING = "lasting"  # a value may have been past its bound for long enough
    SCHEDULE = "rebound"  # the time of day moves bounds
    # of an incident or an order
    SWEEP = "sweep"
    RESERVATION = "reserve"
    PERMIT = "permit"
    # of the book: a symbol, an asset or a venue
    PRICE = "price"  # an asset's price is old
    MARK = "mark"  # a symbol's mark is old
    SETTLE = "settle"  # a venue paused
    FLOW = "flow"  # a flow or a transfer lapses
    STALE = "stale"  # a venue's balances are old
    UNPRICED = "unpriced"  # the grace of an asset without a price ends
    KNOWN = "complete"  # the grace of the first equity ends


_KINDS = frozenset(Timer)


class TimerKey(NamedTuple):
    """A timer: its kind, and whose it is."""

    kind: Timer
    name: str = ""
    scope: Scope = Scope("")  # of a breaker, whose limit `name` is


@lru_cache(maxsize=NAMES)
def timer_key(kind: Timer, name: str = "") -> TimerKey:
    """The timer of a kind and a name; made once, for events arm the same ones again and again."""
    return TimerKey(kind, name)


# What is done when a timer is due. One that returns an iterator does its work in pieces, and yields
# the work of each.
TimerHandler = Callable[[TimerKey], Iterator[int] | None]
StoredKey = tuple[str, str, str]  # a `TimerKey` in a snapshot; an earlier version had other kinds


def handler_table(handlers: Mapping[Timer, TimerHandler]) -> dict[Timer, TimerHandler]:
    """The handler of each timer; raises TypeError when one has none."""
    missing = [timer.name for timer in Timer if timer not in handlers]
    if missing:
        raise TypeError(f"timers without a handler: {', '.join(missing)}")
    return dict(handlers)


class Timers:
    """One timer for each key.

    An earlier one for the same key stands; its handler compares the time and arms it again. So most
    events cost no timer.
    """

    def __init__(self, armed_ns: dict[StoredKey, int], clock: Clock) -> None:
        self._clock = clock
        self.armed_ns = armed_ns
        for key in [key for key in armed_ns if key[0] not in _KINDS]:
            del armed_ns[key]  # an earlier version needed it
        # With old entries in it.
        self._heap = [
            (due_ns, TimerKey(Timer(kind), name, Scope(scope)))
            for (kind, name, scope), due_ns in armed_ns.items()
        ]
        heapify(self._heap)

    @property
    def next_ns(self) -> int:
        return self._heap[0][0] if self._heap else NEVER_NS

    def arm(self, key: TimerKey, due_ns: int) -> None:
        """Set a timer, after the current time: a handler that arms its own key must not loop."""
        armed_ns = self.armed_ns.get(key)
        if armed_ns is not None and armed_ns <= due_ns:
            return
        due_ns = max(due_ns, self._clock.instant.now_ns + 1)
        if armed_ns is None or due_ns < armed_ns:
            self.armed_ns[key] = due_ns
            heappush(self._heap, (due_ns, key))

    def disarm(self, key: StoredKey) -> None:
        self.armed_ns.pop(key, None)

    def due(self) -> Iterator[TimerKey]:
        """Remove, in order, the timers that are due by now; also those armed meanwhile."""
        heap, now_ns = self._heap, self._clock.instant.now_ns
        while heap and heap[0][0] <= now_ns:
            due_ns, key = heappop(heap)
            if self.armed_ns.get(key) == due_ns:
                del self.armed_ns[key]
                yield key
