"""The turns of the loop, and when one of them writes a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from riskmon.core import events as ev
from riskmon.core.decisions import Outcome, Sweep
from riskmon.journal import Commit
from riskmon.sequencer.grants import Levels

SNAPSHOT_EVENTS = 50_000
SNAPSHOT_SECONDS = 300.0
ENTRY_BYTES = 64  # of an entry beside its events


@dataclass(slots=True)
class Request:
    """Events that are one instant, and the future of their sender."""

    events: Sequence[ev.Event]
    arrived_ns: int  # CLOCK_BOOTTIME
    waiter: asyncio.Future[Any] | None = None
    outcome: Outcome | None = None
    encoded: bytes = b""  # events for the journal; none: encoded with the commit


@dataclass(slots=True)
class Turn:
    """What one turn of the loop must see durable before it answers."""

    requests: list[Request]
    commit: Commit
    began_ns: int
    arrived_ns: int
    submitted_ns: int = 0
    levels: Levels | None = None  # when they changed in this turn
    version: int = 0
    events: int = 0
    sweeps: list[Sweep] = field(default_factory=list)


class Snapshots:
    """When to take a snapshot: after many events, much time, or much of what the journal may hold.

    Only what precedes a snapshot can be pruned.
    """

    def __init__(self, journal_bytes: int) -> None:
        self._bytes_max = journal_bytes // 8
        self._last_bytes = 0  # of the last snapshot
        self._events = self._bytes = 0  # since that one
        self._due_ns = 0

    def is_due(self, turn: Turn, now_ns: int) -> bool:
        """Count a turn; whether its commit is to hold a snapshot."""
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
        """Begin to count anew after a snapshot of this many bytes."""
        self._last_bytes = size
        self._events = self._bytes = 0
        self._due_ns = now_ns + int(SNAPSHOT_SECONDS * 1e9)
