"""One turn of the sequencer, and the schedule of snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from riskmon.core import events as ev
from riskmon.core.decisions import Outcome, Sweep
from riskmon.journal import Commit
from riskmon.sequencer.grants import Levels

SNAPSHOT_EVENTS = 50_000
SNAPSHOT_SECONDS = 300.0
ENTRY_BYTES = 64  # of an entry, without its events


@dataclass(slots=True)
class Request:
    """Events of one instant, and the future of their sender."""

    events: Sequence[ev.Event]
    arrived_ns: int  # CLOCK_BOOTTIME
    waiter: asyncio.Future[Outcome] | None = None
    outcome: Outcome | None = None
    encoded: bytes = b""  # the events for the journal; empty: the journal encodes them

    @property
    def check(self) -> ev.Check | None:
        """The order to check, if the request is one check."""
        first = self.events[0] if len(self.events) == 1 else None
        return first if isinstance(first, ev.Check) else None

    @property
    def is_waiting(self) -> bool:
        """Whether a sender waits for the answer."""
        return self.waiter is not None and not self.waiter.done()

    def answer(self) -> None:
        """Give the outcome to the sender, if it still waits."""
        if self.waiter is not None and not self.waiter.done() and self.outcome is not None:
            self.waiter.set_result(self.outcome)

    def refuse(self, error: Exception) -> None:
        """Give the error to the sender, if it still waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)


@dataclass(slots=True)
class Turn:
    """One turn: its requests, and the commit that must be durable before they are answered."""

    requests: list[Request]
    commit: Commit
    began_ns: int
    arrived_ns: int
    submitted_ns: int = 0
    levels: Levels | None = None  # if they changed in this turn
    version: int = 0
    events: int = 0
    sweeps: list[Sweep] = field(default_factory=list)


class Snapshots:
    """The schedule of snapshots: after many events, a long time, or a share of the journal's bytes.

    Only entries before a snapshot can be pruned.
    """

    def __init__(self, journal_bytes: int) -> None:
        self._bytes_max = journal_bytes // 8
        self._last_bytes = 0  # of the last snapshot
        self._events = self._bytes = 0  # since that one
        self._due_ns = 0

    def is_due(self, turn: Turn, now_ns: int) -> bool:
        """Count a turn; whether its commit must contain a snapshot."""
        entries = turn.commit.entries
        self._events += turn.events
        self._bytes += sum(len(one.encoded) + ENTRY_BYTES for one in entries)
        if not entries or not self._events:
            return False
        return (
            self._events >= SNAPSHOT_EVENTS
            or now_ns >= self._due_ns
            or self._bytes > max(self._bytes_max, self._last_bytes)
        )

    def took(self, size: int, now_ns: int) -> None:
        """Restart the counts after a snapshot of this many bytes."""
        self._last_bytes = size
        self._events = self._bytes = 0
        self._due_ns = now_ns + int(SNAPSHOT_SECONDS * 1e9)
